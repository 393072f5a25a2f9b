from __future__ import annotations

import pytest

from modelyard.catalog import BaseModel, Composite, Deployment, Price, load_catalog
from modelyard.catalog.records import Catalog
from modelyard.errors import UnknownModel


def test_price_is_per_million_tokens_and_per_call() -> None:
    assert Price(input=2.0, output=4.0, request=0.5).cost(500_000, 250_000) == 2.5


@pytest.mark.parametrize(("cached_input", "usd"), [(None, 2.0), (0.5, 1.25), (0.0, 1.0), (2.0, 2.0)])
def test_cached_prompt_tokens_have_a_price_of_their_own(cached_input: float | None, usd: float) -> None:
    assert Price(input=2.0, cached_input=cached_input).cost(1_000_000, 0, 500_000) == usd


def test_no_more_tokens_are_cached_than_the_prompt_has() -> None:
    assert Price(input=2.0, cached_input=1.0).cost(1_000_000, 0, 9_000_000) == 1.0


def test_model_that_gives_its_address_itself_has_one_deployment() -> None:
    model = BaseModel("gpt", "openai", Price(), base_url="http://x/v1", api_key_env="K", upstream_model="gpt-up")

    assert model.deployments == (Deployment("gpt", "gpt", "http://x/v1", "K"),)
    assert model.served


@pytest.mark.parametrize(
    ("model", "available", "served"),
    [
        (BaseModel("m", "local", Price(), method="sentence"), True, True),
        (BaseModel("m", "local", Price(), method="sentence", enabled=False), False, False),
        (BaseModel("m", "recorded", Price()), False, False),
        (BaseModel("m", "openai", Price()), False, False),
        (BaseModel("m", "openai", Price(), deployments=(Deployment("m", "m", "u", enabled=False),)), False, False),
        (BaseModel("m", "openai", Price(), deployments=(Deployment("m", "m", "u"),), enabled=False), False, False),
        (BaseModel("m", "openai", Price(), deployments=(Deployment("m", "m", "u"),), embeddings=True), True, False),
    ],
)
def test_a_model_is_available_where_it_can_be_called_and_served_where_it_answers(
    model: BaseModel, available: bool, served: bool
) -> None:
    assert (model.available, model.served) == (available, served)


def test_offered_is_what_applications_may_ask_for() -> None:
    local = BaseModel("local", "local", Price(), method="sentence")
    hidden = BaseModel("auto", "local", Price(), method="sentence")
    embedder = BaseModel("e", "openai", Price(), base_url="http://x/v1", embeddings=True)
    auto, off = Composite("auto", "", ("local",), "local"), Composite("off", "", ("local",), "local", enabled=False)
    catalog = Catalog({m.name: m for m in (local, hidden, embedder)}, {c.name: c for c in (auto, off)})

    assert catalog.offered == {"local": "base", "auto": "composite"}
    assert catalog.embedders == ("e",)


def test_deployment_is_found_by_name_or_said_to_be_missing() -> None:
    catalog = Catalog({"m": BaseModel("m", "openai", Price(), base_url="http://x/v1")}, {})

    assert catalog.deployment("m").base_url == "http://x/v1"
    with pytest.raises(UnknownModel, match="No deployment is called 'no-such'; there are m"):
        catalog.deployment("no-such")
    with pytest.raises(UnknownModel, match="there are none"):
        load_catalog().deployment("no-such")
