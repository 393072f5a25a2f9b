from __future__ import annotations

import pytest

from eval_sets import load_tasks
from modelyard.tasks import Classifier, RuleClassifier
from modelyard.tasks.leaning import TERSE_CHARS, leans
from modelyard.tasks.length import IMAGE_TOKENS, message_tokens
from modelyard.tasks.reading import HISTORY_CHARS, Reading, read
from modelyard.types import Message, Turn
from tests.conftest import ROOT

HOOK = "Write a React hook in TypeScript that debounces a value and cancels its timer on unmount"
QUERY = (
    "Which index makes this PostgreSQL query fast: SELECT * FROM orders WHERE created_at > now() - interval '1 day'?"
)
ANSWER = Turn("assistant", "Here is a SQL query with an index: SELECT 1;")


def talk(*texts: str, system: str | None = None) -> Message:
    """A conversation of user turns with an answer after each but the last."""
    turns = [Turn("system", system)] if system else []
    for text in texts:
        turns += [Turn("user", text), ANSWER]
    return Message(tuple(turns[:-1]))


@pytest.mark.parametrize("prompt", [HOOK, "thanks", "go on", "", "☂", "x" * 30_000])
def test_single_turn_reads_as_it_is(prompt: str) -> None:
    assert read(Message.of(prompt)) == Reading(prompt, prompt)
    assert read(Message((Turn("system", "Be brief."), Turn("user", prompt)))) == Reading(prompt, prompt)
    assert message_tokens(Message.of(prompt)) == max(1, round(len(prompt) / 4))


@pytest.mark.parametrize(
    "said",
    [
        "thanks", "ok thanks, go on", "and in TypeScript?", "it still fails", "why?", "hmm, are you sure?", "Yes!", "does that work?",
        "can you make it shorter?", "danke, weiter", "gracias, sigue", "merci", "ありがとう、続けて", "", "🙂", "add comments",
        "it's still broken", "what does the last line do?",
    ],
)  # fmt: skip
def test_turn_that_says_how_to_go_on_leans(said: str) -> None:
    reading = read(talk(HOOK, said))
    assert reading == Reading(HOOK, f"{HOOK}\n{said}", 1)


@pytest.mark.parametrize(
    "said",
    [
        QUERY, "do i still need forwardRef in react 19?", "is it ok to keep my jwt in localStorage?", "center div with flexbox how",
        "thanks! now how do I index a jsonb column in postgres?", "Thanks. Which Postgres index type fits a jsonb column?",
        "This throws, what is wrong?\n\n```ts\nconst a: number = 'x'\n```", "Prove that the square root of 3 is irrational",
        "it's noon in London in January, what time is it for my sister in Tokyo?", "x" * 30_000,
    ],
)  # fmt: skip
def test_turn_that_names_its_subject_stands_by_itself(said: str) -> None:
    assert read(talk(HOOK, said)) == Reading(said, said)


def test_reading_goes_back_to_the_turn_that_stands_by_itself() -> None:
    reading = read(talk(QUERY, HOOK, "thanks", "and in Vue?", "it still fails"))
    assert (reading.subject, reading.earlier) == (HOOK, 3)
    assert reading.text == f"{HOOK}\nthanks\nand in Vue?\nit still fails"


def test_leaning_turn_that_asks_at_length_is_part_of_the_task() -> None:
    more = "now rewrite it as a distributed system with a migration plan, tests and an explanation of every trade-off"
    assert leans(more)
    assert len(more) >= TERSE_CHARS
    assert read(talk(HOOK, more)).subject == f"{HOOK}\n{more}"


def test_conversation_that_never_names_a_subject_reads_from_its_first_turn() -> None:
    assert read(talk("hello", "thanks", "go on")) == Reading("hello", "hello\nthanks\ngo on", 2)


def test_system_text_answers_and_tool_results_are_not_read() -> None:
    message = talk(HOOK, "go on", system="You are a SQL expert.")
    called = Message((*message.turns, ANSWER, Turn("tool", "SELECT 1")))
    assert read(called) == read(message) == Reading(HOOK, f"{HOOK}\ngo on", 1)


def test_conversation_without_a_user_reads_as_nothing() -> None:
    assert read(Message((ANSWER, ANSWER))) == read(Message(())) == Reading("", "")


def test_history_is_bounded_and_the_last_turn_is_not() -> None:
    long = "word " * 10_000
    assert len(read(talk(long, "go on")).subject) <= HISTORY_CHARS + 1
    assert len(read(talk(*["go on"] * 3_000)).text) <= 2 * HISTORY_CHARS
    assert read(talk(HOOK, long)).text == long


def test_reading_says_in_words_what_was_read() -> None:
    assert read(Message.of("go on")).reason is None
    assert read(talk(HOOK, QUERY)).reason is None
    one, two = read(talk(HOOK, "go on")).reason, read(talk(HOOK, "go on", "thanks")).reason
    assert one == "the last turn leans on what was said before: it was read with the user turn before it"
    assert two == "the last turn leans on what was said before: it was read with the 2 user turns before it"


def test_task_keeps_its_domain_with_a_follow_up_and_counts_the_whole_prompt() -> None:
    classifier: Classifier = RuleClassifier()
    alone, later = classifier.classify(Message.of(HOOK)), classifier.classify(talk(HOOK, "ok thanks, go on"))
    assert (later.domain, later.complexity, later.domains) == (alone.domain, alone.complexity, alone.domains)
    assert later.tokens == round(len(HOOK + ANSWER.text + "ok thanks, go on") / 4)


def test_task_follows_a_change_of_subject() -> None:
    classifier = RuleClassifier()
    assert classifier.classify(talk(HOOK, QUERY)).domains == classifier.classify(Message.of(QUERY)).domains


def test_length_counts_system_text_tools_images_and_tool_calls() -> None:
    image = {
        "role": "user",
        "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {}}],
    }
    calls = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "look", "arguments": "{}" * 100}}],
    }
    turns = (
        Turn("system", "x" * 400),
        Turn("user", "x" * 40, image),
        Turn("assistant", "", calls),
        Turn("tool", "x" * 80),
    )
    tools = [{"type": "function", "function": {"name": "look", "description": "x" * 4_000}}]
    plain = message_tokens(Message(turns))
    assert plain == 130 + IMAGE_TOKENS + 62
    assert message_tokens(Message(turns, parameters={"temperature": 1.0, "tools": None})) == plain
    assert 1_000 < message_tokens(Message(turns, parameters={"tools": tools})) - plain < 1_050


def test_length_of_what_json_cannot_hold_is_estimated_too() -> None:
    assert message_tokens(Message((), parameters={"tools": [{"name": "\ud800", "limit": 2**70}]})) > 5


def test_few_prompts_that_begin_a_subject_lean() -> None:
    rows = load_tasks(ROOT / "eval_sets" / "web_tasks").rows
    assert sum(leans(row.prompt) for row in rows) <= 0.05 * len(rows)


def test_turn_made_to_be_slow_is_not() -> None:
    for piece in ("ok ", "so much ", "can you can you ", "it's ", "a" * 50 + " ", "…", "the second "):
        assert read(talk(HOOK, piece * 50_000)).text.endswith(piece)
