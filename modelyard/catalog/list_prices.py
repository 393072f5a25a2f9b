"""Vendors' list prices, from the data that comes with genai-prices: nothing is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from modelyard.catalog.records import Price
from modelyard.errors import InvalidSetting

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

HOURS: Final = range(24)
# By host, since genai-prices knows nothing of batches. https://platform.openai.com/docs/guides/batch: half.
BATCH_FACTORS: Final = {"api.openai.com": 0.5}


@dataclass(frozen=True, slots=True)
class ListPrice:
    """What a vendor asks, and the longest prompt that it takes, in tokens, where genai-prices knows it.

    Attributes:
        source: `provider/model`, as genai-prices calls them.
        price: Where the hour of the day decides, the day's dearest; where the prompt's length does, that of short prompts.
        context_window: In tokens.
    """

    source: str
    price: Price
    context_window: int | None


def list_price(reference: str) -> ListPrice:
    """Return the list price of `provider/model`, such as `openai/gpt-4o-mini`.

    Raises:
        InvalidSetting: genai-prices does not know it.
    """
    provider, slash, model = reference.partition("/")
    if not (provider and slash and model):
        raise InvalidSetting(f"price_from must be provider/model, such as 'openai/gpt-4o-mini', but got {reference!r}.")
    found = _find(model, provider, None, datetime.now(UTC).date())
    if found is None:
        raise InvalidSetting(f"price_from names {reference!r}, of which genai-prices knows no price per token.")
    return found


def list_price_at(base_url: str, model: str) -> ListPrice | None:
    """Return the list price of a model by its name at an endpoint, or None where genai-prices does not know them."""
    return _find(model, None, base_url, datetime.now(UTC).date())


def batch_factor_at(base_url: str) -> float:
    """Return what an offline batch costs at an endpoint beside calls at once; 1 where nothing else is known."""
    return BATCH_FACTORS.get(urlsplit(base_url).hostname or "", 1.0)


@lru_cache(maxsize=1024)
def _find(model: str, provider: str | None, base_url: str | None, day: date) -> ListPrice | None:
    from genai_prices.data_snapshot import get_snapshot  # reads 1.5 MB: a quarter of a second

    try:
        vendor, info = get_snapshot().find_provider_model(model, None, provider, base_url)
    except LookupError:
        return None
    price = price_on(info, day)
    return None if price is None else ListPrice(f"{vendor.id}/{info.id}", price, info.context_window)


def price_on(info: ModelInfo, day: date) -> Price | None:
    """Return a price as it stands on a day, or None where the vendor counts neither tokens nor calls."""
    hours = (info.get_prices(datetime.combine(day, time(hour), UTC)) for hour in HOURS)
    prices = [price for price in map(_read, hours) if price is not None]
    return max(prices, key=lambda price: (price.input + price.output, price.request), default=None)


def _read(found: ModelPrice) -> Price | None:
    per_call = _number(found.requests_kcount)
    if found.input_mtok is None and found.output_mtok is None and not per_call:
        return None
    return Price(
        _number(found.input_mtok),
        _number(found.output_mtok),
        per_call / 1000,
        None if found.cache_read_mtok is None else _number(found.cache_read_mtok),
    )


def _number(price: Decimal | TieredPrices | None) -> float:
    if price is None:
        return 0.0
    return float(price if isinstance(price, Decimal) else price.base)
