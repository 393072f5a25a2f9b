"""What can be asked for: base models, their prices, and the composites built from them."""

from modelyard.catalog.loading import load_catalog, load_prices
from modelyard.catalog.records import BaseModel, Catalog, Composite, Price, estimate_tokens

__all__ = ["BaseModel", "Catalog", "Composite", "Price", "estimate_tokens", "load_catalog", "load_prices"]
