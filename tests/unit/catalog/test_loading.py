from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.catalog import Price, load_catalog, load_prices
from modelyard.errors import InvalidSetting, UnknownModel

MODEL = '[models.mine]\nkind = "openai"\nbase_url = "http://localhost:1/v1"\n'
BROKEN = {
    "not TOML": ("models = [", r"own\.toml is not TOML"),
    "unknown section": ("[model.x]\n", "own.toml: model is invalid"),
    "unknown key": (MODEL + "speed = 1\n", r"models\.mine\.speed is invalid .*got 1"),
    "unknown kind": ('[models.mine]\nkind = "magic"\n', r"models\.mine\.kind is invalid .*got 'magic'"),
    "local without method": ('[models.mine]\nkind = "local"\n', "a local model needs a method"),
    "openai without address": ('[models.mine]\nkind = "openai"\n', "an openai model needs a base_url"),
    "negative price": (MODEL + "input = -1\n", r"models\.mine\.input is invalid .*got -1"),
    "endless price": (MODEL + "output = inf\n", r"models\.mine\.output is invalid"),
    "no window": (MODEL + "context_window = 0\n", r"models\.mine\.context_window is invalid"),
    "no candidates": (
        '[composites.c]\ndescription = ""\ncandidates = []\nfallback = "local-sm"\n',
        r"composites\.c\.candidates is invalid",
    ),
}


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(text)
    return path


def composite(candidates: str, fallback: str) -> str:
    return f'[composites.c]\ndescription = "one"\ncandidates = [{candidates}]\nfallback = "{fallback}"\n'


def test_shipped_catalogue_loads_and_every_composite_is_served() -> None:
    catalog = load_catalog()

    assert {"auto", "v0-1.5-md", "v0-1.5-lg"} <= set(catalog.composites)
    assert {"local-sm", "local-md"} <= set(catalog.served)
    for spec in catalog.composites.values():
        assert spec.fallback in spec.candidates
        assert set(spec.candidates) <= set(catalog.served)
        assert spec.description.endswith(".")
    assert not [name for name in catalog.served if catalog.model(name).kind == "recorded"]


def test_candidates_of_shipped_composites_stand_cheapest_first() -> None:
    catalog = load_catalog()
    for spec in catalog.composites.values():
        costs = [catalog.model(name).expected_cost(100) for name in spec.candidates]
        assert costs == sorted(costs)


def test_own_file_adds_models_and_replaces_shipped_ones(tmp_path: Path) -> None:
    text = MODEL + 'input = 3\n[models.local-sm]\nkind = "local"\nmethod = "sentence"\nrequest = 9\n'
    catalog = load_catalog(own(tmp_path, text + composite('"mine", "local-sm"', "mine")))

    assert catalog.price("mine") == Price(input=3.0)
    assert catalog.price("local-sm") == Price(request=9.0)
    assert catalog.composite("c").candidates == ("mine", "local-sm")
    assert "auto" in catalog.composites


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN)
def test_broken_catalogue_is_refused_with_place_and_value(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidSetting, match=said) as caught:
        load_catalog(own(tmp_path, text))
    assert "own.toml" in str(caught.value)


@pytest.mark.parametrize("name", ["gpt-4-0314", "nothing"])
@pytest.mark.parametrize("place", ["candidates", "fallbacks"])
def test_composite_that_names_a_model_nobody_serves_is_refused(tmp_path: Path, name: str, place: str) -> None:
    text = (
        composite(f'"local-sm", "{name}"', "local-sm") if place == "candidates" else composite('"local-sm"', "local-sm")
    )
    more = f'fallbacks = ["{name}"]\n' if place == "fallbacks" else ""

    with pytest.raises(InvalidSetting, match=f"composite 'c' names the model '{name}', which no deployment serves"):
        load_catalog(own(tmp_path, text + more))


def test_fallback_must_be_a_candidate(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="'c' falls back to 'local-md', which is not one of its candidates"):
        load_catalog(own(tmp_path, composite('"local-sm"', "local-md")))


def test_composites_go_without_models_that_are_switched_off(tmp_path: Path) -> None:
    off = MODEL.replace("mine", "off") + "input = 1\nenabled = false\n"
    text = off + composite('"local-sm", "local-md", "off"', "off") + 'fallbacks = ["off"]\n'
    catalog = load_catalog(own(tmp_path, text))

    spec = catalog.composite("c")
    assert (spec.candidates, spec.fallback, spec.fallbacks) == (("local-sm", "local-md"), "local-md", ())
    assert spec.left_out == ("off",)
    assert catalog.notices == ("The composite 'c' goes without off, switched off now.",)


def test_switching_off_the_last_candidate_of_a_composite_is_refused(tmp_path: Path) -> None:
    text = '[models.local-md]\nkind = "local"\nmethod = "passages"\nenabled = false\n'

    with pytest.raises(
        InvalidSetting, match=r"composite 'v0-1.5-lg' needs a candidate that is switched on, but all are off: local-md"
    ):
        load_catalog(own(tmp_path, text))


@pytest.mark.parametrize("read", [load_catalog, load_prices])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, read: object) -> None:
    (tmp_path / "latin.toml").write_bytes(b"\xff\xfe")
    for name in ("nowhere.toml", "latin.toml"):
        with pytest.raises(InvalidSetting, match=f"Cannot read .*{name}"):
            read(tmp_path / name)  # type: ignore[operator]


@pytest.mark.parametrize("ask", ["model", "composite", "price"])
def test_unknown_name_is_said(ask: str) -> None:
    with pytest.raises(UnknownModel, match="'no-such'"):
        getattr(load_catalog(), ask)("no-such")


def test_prices_are_read_by_model(tmp_path: Path) -> None:
    path = own(tmp_path, '["big-1.5"]\ninput = 10\noutput = 30\n[small]\nrequest = 0.01\n')

    assert load_prices(path) == {"big-1.5": Price(10.0, 30.0), "small": Price(request=0.01)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[m]\ninput = -3\n", r"table \['m'\]: input is invalid .*got -3"),
        ("[m]\noutput = nan\n", r"table \['m'\]: output is invalid"),
        ('[m]\ninput = "cheap"\n', r"table \['m'\]: input is invalid .*got 'cheap'"),
        ("[m]\nprice = 3\n", r"table \['m'\]: price is invalid"),
        ("m = 3\n", r"table \['m'\]: table is invalid .*got 3"),
        ("[m\n", "is not TOML"),
    ],
)
def test_broken_price_file_is_refused_with_model_and_value(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidSetting, match=said):
        load_prices(own(tmp_path, text))


def test_price_is_per_million_tokens_and_per_call() -> None:
    assert Price(input=2.0, output=4.0, request=0.5).cost(500_000, 250_000) == 2.5
