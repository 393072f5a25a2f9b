"""What can be asked for: base models with their prices and deployments, and the composites built from them."""

from modelyard.catalog.costs import DEFAULT_OUTPUT_TOKENS, realised_costs
from modelyard.catalog.loading import load_catalog, load_prices
from modelyard.catalog.records import BaseModel, Catalog, Composite, Deployment, Price
from modelyard.types import estimate_tokens

__all__ = [
    "DEFAULT_OUTPUT_TOKENS",
    "BaseModel",
    "Catalog",
    "Composite",
    "Deployment",
    "Price",
    "estimate_tokens",
    "load_catalog",
    "load_prices",
    "realised_costs",
]
