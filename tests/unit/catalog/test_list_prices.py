from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import pytest
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from modelyard.catalog import Price, load_catalog
from modelyard.catalog.list_prices import list_price, list_price_at, price_on
from modelyard.errors import InvalidSetting
from tests.unit.catalog.files import own

OPENAI = '[models.mine]\nkind = "openai"\nbase_url = "https://api.openai.com/v1"\nupstream_model = "gpt-4o-mini"\n'
LOCALHOST = '[models."gpt-4o-mini"]\nkind = "openai"\nbase_url = "http://localhost:1/v1"\n'
MINI = Price(input=0.15, output=0.6, cached_input=0.075)


def test_list_price_is_per_million_tokens_with_cached_ones_and_the_window() -> None:
    found = list_price("openai/gpt-4o-mini")

    assert (found.source, found.price, found.context_window) == ("openai/gpt-4o-mini", MINI, 128_000)


def test_price_per_call_is_per_call() -> None:
    assert 0.0 < list_price("perplexity/sonar").price.request < 0.1


def test_the_longest_part_of_a_reference_is_the_model() -> None:
    assert list_price("openrouter/openai/gpt-4o-mini").source.startswith("openrouter/openai/gpt-4o-mini")


@pytest.mark.parametrize("reference", ["openai/no-such-model", "nobody/gpt-4o", "gpt-4o", "/gpt-4o", "openai/", ""])
def test_reference_that_is_not_known_is_one_sentence(reference: str) -> None:
    with pytest.raises(InvalidSetting, match=f"price_from .*'{reference}'"):
        list_price(reference)


def test_model_is_found_by_its_name_at_a_vendors_address() -> None:
    found = list_price_at("https://api.openai.com/v1", "gpt-4o-mini")

    assert found is not None
    assert found.price == MINI
    assert list_price_at("http://localhost:1/v1", "gpt-4o-mini") is None
    assert list_price_at("https://api.openai.com/v1", "no-such") is None


def info(prices: ModelPrice | list[ConditionalPrice]) -> ModelInfo:
    return ModelInfo("m", ClauseEquals("m"), prices=prices)


def test_the_days_dearest_hour_counts() -> None:
    night = TimeOfDateConstraint(time(16, 30, tzinfo=UTC), time(18, 30, tzinfo=UTC))
    cheap, dear = ModelPrice(input_mtok=Decimal(1)), ModelPrice(input_mtok=Decimal(3))

    for first, second in ((cheap, dear), (dear, cheap)):
        found = price_on(
            info([ConditionalPrice(prices=first), ConditionalPrice(night, prices=second)]), date(2026, 1, 1)
        )
        assert found == Price(input=3.0)


def test_short_prompts_price_counts_where_long_ones_cost_more() -> None:
    tiers = TieredPrices(Decimal(2), [Tier(200_000, Decimal(4))])

    assert price_on(info(ModelPrice(input_mtok=tiers)), datetime.now(UTC).date()) == Price(input=2.0)


def test_model_priced_by_other_units_has_no_price() -> None:
    assert price_on(info(ModelPrice(audio_hours=Decimal(1))), date(2026, 1, 1)) is None


def test_model_without_a_price_takes_the_list_price_at_its_vendor(tmp_path: Path) -> None:
    model = load_catalog(own(tmp_path, OPENAI)).model("mine")

    assert (model.price, model.price_from, model.context_window) == (MINI, "openai/gpt-4o-mini", 128_000)


def test_own_prices_take_the_place_of_the_list_price_part_by_part(tmp_path: Path) -> None:
    text = LOCALHOST + 'price_from = "openai/gpt-4o-mini"\noutput = 0.5\nrequest = 0.01\ncontext_window = 4096\n'
    model = load_catalog(own(tmp_path, text)).model("gpt-4o-mini")

    assert model.price == Price(0.15, 0.5, 0.01, 0.075)
    assert model.context_window == 4096


def test_any_price_of_ones_own_without_price_from_is_the_whole_price(tmp_path: Path) -> None:
    model = load_catalog(own(tmp_path, OPENAI + "input = 1\n")).model("mine")

    assert (model.price, model.price_from) == (Price(input=1.0), None)


def test_model_that_nobody_prices_is_free_and_that_is_said(tmp_path: Path) -> None:
    catalog = load_catalog(own(tmp_path, LOCALHOST))

    assert catalog.price("gpt-4o-mini") == Price()
    assert catalog.notices == (
        "The model 'gpt-4o-mini' has no price, and genai-prices does not know it at its endpoint: its calls count as free.",
    )
    assert load_catalog(own(tmp_path, LOCALHOST + "input = 0\n")).notices == ()


def test_unknown_price_from_names_file_and_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"own\.toml: models\.gpt-4o-mini: price_from names 'openai/no-such'"):
        load_catalog(own(tmp_path, LOCALHOST + 'price_from = "openai/no-such"\n'))


def test_the_shipped_catalogue_needs_no_list_prices() -> None:
    code = (
        "import sys; from modelyard.catalog import load_catalog; load_catalog(); print('genai_prices' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
