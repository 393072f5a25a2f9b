from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from modelyard.catalog import Composite, Deployment, Price, load_catalog, load_prices
from modelyard.errors import InvalidSetting, UnknownModel

MODEL = '[models.mine]\nkind = "openai"\nbase_url = "http://localhost:1/v1"\n'
COMPOSITE = '[composites.c]\ndescription = "one"\ncandidates = ["local-sm"]\nfallback = "local-sm"\n'
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
    "window as text": (MODEL + 'context_window = "8k"\n', r"models\.mine\.context_window is invalid .*got '8k'"),
    "yes for a number": (MODEL + "input = true\n", r"models\.mine\.input is invalid .*got True"),
    "unknown capability": (
        MODEL + 'capabilities = ["flying"]\n',
        r"models\.mine\.capabilities\.0 is invalid .*got 'flying'",
    ),
    "longer answer than window": (
        MODEL + "context_window = 100\nmax_output_tokens = 200\n",
        r"models\.mine: max_output_tokens must fit into the context window of 100 tokens, got 200",
    ),
    "address that is none": (
        MODEL.replace("http://localhost:1", "localhost"),
        r"models\.mine\.base_url is invalid \(a base_url must",
    ),
    "address without host": (MODEL.replace("localhost:1", ""), r"models\.mine\.base_url is invalid"),
    "address with a bad port": (MODEL.replace("localhost:1", "localhost:port"), r"models\.mine\.base_url is invalid"),
    "address with half a bracket": (MODEL.replace("localhost:1", "[::1"), r"models\.mine\.base_url is invalid"),
    "address with a query": (
        MODEL.replace("/v1", "/v1?api-version=1"),
        r"models\.mine\.base_url is invalid .*no user, password, query",
    ),
    "key instead of its variable": (
        MODEL + 'api_key_env = "sk-123"\n',
        r"models\.mine\.api_key_env is invalid \(api_key_env must be the name of an environment variable, never the key itself\)\.$",
    ),
    "address beside deployments": (
        MODEL + '[models.mine.deployments.a]\nbase_url = "http://a/v1"\n',
        "models.mine is invalid .base_url belongs to each deployment",
    ),
    "key beside deployments": (
        '[models.mine]\nkind = "openai"\napi_key_env = "K"\n[models.mine.deployments.a]\nbase_url = "http://a/v1"\n',
        "models.mine is invalid .api_key_env belongs to each deployment",
    ),
    "deployment without address": (
        '[models.mine]\nkind = "openai"\n[models.mine.deployments.a]\nweight = 2\n',
        r"models\.mine\.deployments\.a\.base_url is invalid \(Field required\)",
    ),
    "deployment without weight": (
        '[models.mine]\nkind = "openai"\n[models.mine.deployments.a]\nbase_url = "http://a/v1"\nweight = 0\n',
        r"models\.mine\.deployments\.a\.weight is invalid .*got 0",
    ),
    "deployment with a path for a name": (
        '[models.mine]\nkind = "openai"\n[models.mine.deployments."a/b"]\nbase_url = "http://a/v1"\n',
        r"models\.mine\.deployments\.a/b.* is invalid",
    ),
    "no room": (MODEL + "max_concurrent = 0\n", r"models\.mine\.max_concurrent is invalid .*got 0"),
    "no time": (MODEL + "timeout_s = 0\n", r"models\.mine\.timeout_s is invalid .*got 0"),
    "local model with an address": (
        '[models.mine]\nkind = "local"\nmethod = "sentence"\nbase_url = "http://a/v1"\n',
        "a local model takes no base_url, deployments, embeddings or moderations",
    ),
    "name with a line break": ('[models."mine\\nyours"]\nkind = "recorded"\n', "a name must be printable ASCII"),
    "description of two lines": (
        COMPOSITE.replace("one", r"one\ntwo"),
        r"composites\.c\.description is invalid .*one line",
    ),
    "margin beyond 1": (COMPOSITE + "equal_margin = 2\n", r"composites\.c\.equal_margin is invalid .*got 2"),
    "negative cache": (COMPOSITE + "response_cache_s = -1\n", r"composites\.c\.response_cache_s is invalid .*got -1"),
    "unknown stickiness": (COMPOSITE + 'sticky = "always"\n', r"composites\.c\.sticky is invalid .*got 'always'"),
    "embedder as a candidate": (
        MODEL
        + "embeddings = true\n"
        + COMPOSITE.replace('candidates = ["local-sm"]', 'candidates = ["local-sm", "mine"]'),
        "composite 'c' names the model 'mine', which embeds texts and answers nothing",
    ),
    "two deployments of one name": (
        MODEL.replace("mine", '"a/b"')
        + '[models.a]\nkind = "openai"\n[models.a.deployments.b]\nbase_url = "http://a/v1"\n',
        "models 'a/b' and 'a' both have a deployment called 'a/b', but deployments must have names of their own",
    ),
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
    sentence = str(caught.value)
    assert "own.toml" in sentence or "both have a deployment" in sentence
    assert "\n" not in sentence
    assert "sk-123" not in sentence


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


def test_table_of_deployments_is_read(tmp_path: Path) -> None:
    text = """
[models.mine]
kind = "openai"
upstream_model = "big-1"
capabilities = ["tools", "images"]
max_output_tokens = 500
image_tokens = 48000
[models.mine.deployments.east]
base_url = "https://east/v1"
api_key_env = "EAST_KEY"
weight = 3
max_concurrent = 8
timeout_s = 20
[models.mine.deployments.west]
base_url = "https://west/v1"
upstream_model = "big-2"
enabled = false
"""
    model = load_catalog(own(tmp_path, text)).model("mine")

    assert model.deployments == (
        Deployment("mine/east", "mine", "https://east/v1", "EAST_KEY", None, 3.0, 8, 20.0),
        Deployment("mine/west", "mine", "https://west/v1", upstream_model="big-2", enabled=False),
    )
    assert (model.base_url, model.upstream_model, model.max_output_tokens) == (None, "big-1", 500)
    assert model.image_tokens == 48_000
    assert model.capabilities == {"tools", "images"}
    assert model.served


def test_short_form_is_one_deployment_called_like_its_model(tmp_path: Path) -> None:
    more = 'api_key_env = "K"\nupstream_model = "up"\nmax_concurrent = 3\ntimeout_s = 9\n'
    model = load_catalog(own(tmp_path, MODEL + more)).model("mine")

    only = Deployment("mine", "mine", "http://localhost:1/v1", "K", max_concurrent=3, timeout_s=9.0)
    assert model.deployments == (only,)
    assert (model.base_url, model.api_key_env, model.upstream_model) == ("http://localhost:1/v1", "K", "up")


def test_examples_of_the_shipped_file_are_valid(tmp_path: Path) -> None:
    head = (files("modelyard.catalog") / "shipped.toml").read_text("utf-8").split("\n# Local extractive", maxsplit=1)[0]
    examples = [line.removeprefix("#   ") for line in head.splitlines() if line.startswith("#   ")]
    start = next(i for i, line in enumerate(examples) if line.startswith("fallbacks"))
    catalog = load_catalog(own(tmp_path, "\n".join([*examples[:start], COMPOSITE, *examples[start:]])))

    assert catalog.notices == ()
    assert catalog.model("gpt-4o-mini").price_from == "openai/gpt-4o-mini"
    assert catalog.model("llama").price.input > 0
    assert [deployment.name for deployment in catalog.model("llama").deployments] == ["llama/east", "llama/west"]
    assert catalog.composite("c").sticky == "conversation"


def test_description_may_have_any_letters(tmp_path: Path) -> None:
    text = COMPOSITE.replace("one", "62\u00a0% für ☂")

    assert load_catalog(own(tmp_path, text)).composite("c").description == "62\u00a0% für ☂"


def test_models_behind_an_endpoint_take_tools_and_json_where_nothing_else_is_said(tmp_path: Path) -> None:
    catalog = load_catalog(own(tmp_path, MODEL + MODEL.replace("mine", "none") + "capabilities = []\n"))

    assert catalog.model("mine").capabilities == {"tools", "json"}
    assert catalog.model("none").capabilities == catalog.model("local-md").capabilities == frozenset()


def test_batches_cost_half_at_openai_and_what_the_catalogue_says_elsewhere(tmp_path: Path) -> None:
    def factor(model: str) -> float:
        return load_catalog(own(tmp_path, model)).models["m"].deployments[0].batch_price_factor

    entry = '[models.m]\nkind = "openai"\ninput = 1\nbase_url = "{}"\n'
    assert factor(entry.format("https://api.openai.com/v1")) == 0.5
    assert factor(entry.format("https://api.openai.com.example/v1")) == 1.0
    assert factor(entry.format("https://llm.example/v1") + "batch_price_factor = 0.25\n") == 0.25
    places = '[models.m]\nkind = "openai"\ninput = 1\n[models.m.deployments.a]\nbase_url = "https://llm.example/v1"\n'
    assert factor(places + "batch_price_factor = 0.75\n") == 0.75
    with pytest.raises(InvalidSetting, match="batch_price_factor"):
        factor(places + "batch_price_factor = 2\n")


def test_embedding_models_of_several_names_are_noticed(tmp_path: Path) -> None:
    places = "".join(
        f'[models.e.deployments.{key}]\nbase_url = "http://{key}/v1"\nupstream_model = "{name}"\n'
        for key, name in (("a", "e2"), ("b", "e3"))
    )
    entry = '[models.e]\nkind = "openai"\ninput = 1\nembeddings = true\n' + places
    (said,) = load_catalog(own(tmp_path, entry)).notices
    assert "'e' embeds as e2 and e3 at its deployments" in said
    assert load_catalog(own(tmp_path, entry.replace("e3", "e2"))).notices == ()


def test_moderation_models_serve_moderations_alone(tmp_path: Path) -> None:
    catalog = load_catalog(own(tmp_path, MODEL + "moderations = true\n"))
    assert (catalog.moderators, catalog.embedders, "mine" in catalog.offered) == (("mine",), (), False)
    with pytest.raises(InvalidSetting, match="embeddings or moderations, not both"):
        load_catalog(own(tmp_path, MODEL + "moderations = true\nembeddings = true\n"))


def test_embedding_models_serve_embeddings_alone(tmp_path: Path) -> None:
    catalog = load_catalog(own(tmp_path, MODEL + "embeddings = true\n"))

    assert catalog.embedders == ("mine",)
    assert "mine" not in catalog.served
    assert catalog.model("mine").capabilities == frozenset()


def test_fields_of_a_composite_are_read(tmp_path: Path) -> None:
    more = (
        'fallbacks = ["mine", "local-sm"]\nequal_margin = 0.02\nsticky = "conversation"\nswitch_weight = 0.5\n'
        "response_cache_s = 60\nresponse_cache_shared = true\nenabled = false\ncost_weight = 3\npassages = 0\n"
    )
    spec = load_catalog(own(tmp_path, MODEL + COMPOSITE + more)).composite("c")

    given = Composite("c", "one", ("local-sm",), "local-sm", 0, 3.0, ("mine",), 0.02, "conversation", 0.5, 60.0, False)
    given = replace(given, response_cache_shared=True)
    assert spec == given
