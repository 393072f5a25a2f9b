from __future__ import annotations

import pytest

from modelyard.catalog import BaseModel, Price, load_catalog
from modelyard.errors import InvalidSetting, UnknownModel
from modelyard.generation import LocalExtractive, make_generator
from modelyard.generation.base import Generator
from modelyard.generation.local import NO_INDEX, NOTHING
from modelyard.retrieval import Index
from modelyard.types import Delta, Draft, Message, Passage, Turn
from modelyard.upstream import Upstream
from tests.unit.retrieval.knowledge import knowledge

PRICE = Price(input=4.0, request=0.5)
METHODS = ("sentence", "passages")


@pytest.fixture(scope="module")
def index() -> Index:
    return Index.build(knowledge())


def local(method: str | None, index: Index | None) -> LocalExtractive:
    return LocalExtractive(BaseModel("local", "local", PRICE, method=method), index)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "prompt",
    [
        "why does my effect run twice in dev?",
        "warum läuft mein useEffect doppelt?",
        "how many requests a minute does the API allow?",
        "how do I write an effect with cleanup?",
    ],
)
def test_quotes_are_exact_spans_of_their_documents(index: Index, method: str, prompt: str) -> None:
    draft = local(method, index).draft(prompt)
    sources = {document.id: document.source for document in knowledge()}
    assert draft.cited
    for quote in draft.cited:
        assert quote.cited
        assert quote.text == sources[quote.document][quote.start : quote.end]
        assert quote.text in draft.text
        assert quote.title in draft.text


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("prompt", ["", "hello :)", "tell me a joke about penguins", "🙂🙂", "   \n"])
def test_nothing_in_the_knowledge_base_is_said_honestly(index: Index, method: str, prompt: str) -> None:
    draft = local(method, index).draft(prompt)
    assert (draft.text, draft.cited, draft.finish_reason) == (NOTHING, (), "stop")


@pytest.mark.parametrize("method", METHODS)
def test_usage_is_estimated_and_priced(index: Index, method: str) -> None:
    draft = local(method, index).draft("x" * 400)
    assert draft.usage.estimated
    assert draft.usage.prompt_tokens == 100
    assert draft.usage.cost_usd == pytest.approx(0.5 + 4.0 * 100 / 1e6)


@pytest.mark.parametrize("method", METHODS)
async def test_stream_gives_the_draft_in_pieces(index: Index, method: str) -> None:
    generator = local(method, index)
    message = Message.of("how do I write an effect with cleanup?")
    *pieces, last = [piece async for piece in generator.stream(message, ())]
    assert isinstance(last, Draft)
    assert "".join(piece.text for piece in pieces if isinstance(piece, Delta)) == last.text
    assert last == await generator.generate(message, ())


def test_sentence_model_is_brief_and_passages_model_thorough(index: Index) -> None:
    prompt = "how do I clean up an effect, and why does it run twice?"
    brief, thorough = local("sentence", index).draft(prompt), local("passages", index).draft(prompt)
    assert len(brief.cited) <= 2
    assert len(thorough.cited) > len(brief.cited)
    assert len(thorough.text) > len(brief.text)


def test_code_is_quoted_whole_where_the_prompt_asks_for_it(index: Index) -> None:
    model = local("passages", index)
    asked = model.draft("show me example code for an effect with a socket, production mounts once")
    assert "```tsx\nuseEffect(() => {" in asked.text and "}, []);\n```" in asked.text
    assert "```" not in model.draft("is it true that production mounts an effect once?").text


def test_given_passages_are_what_is_quoted(index: Index) -> None:
    text = "An effect may subscribe. It must clean up after itself."
    given = Passage("own", "Own notes", text, 100, 100 + len(text), 0.9)
    draft = local("passages", index).draft("effect cleanup", (given,))
    assert {quote.document for quote in draft.cited} == {"own"}
    assert all(quote.text == text[quote.start - 100 : quote.end - 100] for quote in draft.cited)


@pytest.mark.parametrize("method", METHODS)
def test_answers_are_deterministic_and_bounded(index: Index, method: str) -> None:
    prompt = "effect component cleanup requests grid center " * 200
    drafts = [local(method, index).draft(prompt) for _ in range(2)]
    assert drafts[0] == drafts[1]
    assert len(drafts[0].text) < 3000


@pytest.mark.parametrize("method", METHODS)
def test_without_a_knowledge_base_the_answer_says_what_to_do(method: str) -> None:
    draft = local(method, None).draft("anything")
    assert (draft.text, draft.cited) == (NO_INDEX, ())


async def test_make_generator_follows_the_kind(index: Index) -> None:
    catalog = load_catalog()
    async with Upstream() as upstream:
        generator: Generator = make_generator(catalog.model("local-sm"), index=index, upstream=upstream)
        assert isinstance(generator, LocalExtractive)
        assert generator.name == "local-sm"
        with pytest.raises(UnknownModel, match="recorded outcomes only"):
            make_generator(catalog.model("gpt-4-0314"), index=index, upstream=upstream)


def test_local_model_without_a_method_is_refused(index: Index) -> None:
    with pytest.raises(InvalidSetting, match="'local' no method"):
        local(None, index)


@pytest.mark.parametrize("method", METHODS)
async def test_follow_up_is_answered_from_what_it_follows(index: Index, method: str) -> None:
    asked = "how many requests a minute does the API allow?"
    turns = (Turn("user", asked), Turn("assistant", "Some."), Turn("user", "thanks, go on"))
    alone, later = [await local(method, index).generate(message, ()) for message in (Message.of(asked), Message(turns))]
    assert [quote.document for quote in later.cited] == [quote.document for quote in alone.cited] != []
