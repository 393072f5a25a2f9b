from __future__ import annotations

import pytest

from modelyard.catalog import Composite, Price
from modelyard.routing.conversation import Conversations
from modelyard.types import Candidate, Message, Route, Turn
from tests.unit.upstream.test_breaker import Clock

SPEC = Composite("auto", "Two models.", ("small", "large"), "small")
STICKY = Composite("auto", "Two models.", ("small", "large"), "small", sticky="conversation")
PRICES = {"small": Price(input=1.0, output=1.0, cached_input=0.1), "large": Price(input=10.0, output=10.0)}
FIRST = Message((Turn("system", "Be brief."), Turn("user", "x" * 4000)))
NEXT = Message((*FIRST.turns, Turn("assistant", "Yes."), Turn("user", "Why?")))
THIRD = Message((*NEXT.turns, Turn("assistant", "So."), Turn("user", "Really?")))


def route(small: float | None, large: float | None, *, weight: float | None = 100.0, model: str = "large") -> Route:
    candidates = (Candidate("small", small, 0.0001), Candidate("large", large, 0.0002))
    return Route(model, candidates, "learned", ("it is best",), 0.6, 0.5, weight)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def conversations(clock: Clock) -> Conversations:
    return Conversations(clock=clock)


def test_a_first_turn_has_no_conversation(conversations: Conversations) -> None:
    conversations.remember(FIRST, "small", "Yes.")
    found = route(0.8, 0.9)
    assert conversations.adjust(found, FIRST, STICKY, PRICES) is found


@pytest.mark.parametrize("message", [NEXT, THIRD])
def test_sticky_conversation_stays_and_says_so(conversations: Conversations, message: Message) -> None:
    conversations.remember(FIRST, "small", " Yes.\n")
    found = conversations.adjust(route(0.1, 0.9), message, STICKY, PRICES)
    assert (found.model, found.propensity, found.confidence) == ("small", 1.0, None)
    assert found.reasons == ("the conversation stays with small", "it is best")


def test_sticky_conversation_whose_model_is_gone_moves_on(conversations: Conversations) -> None:
    conversations.remember(FIRST, "retired", "Yes.")
    found = conversations.adjust(route(0.1, 0.9), NEXT, STICKY, PRICES)
    assert found.model == "large"
    assert found.reasons[-1] == "the conversation's model retired is no longer a candidate"


def test_named_conversation_is_known_by_its_name(conversations: Conversations) -> None:
    def named(name: str) -> Message:
        return Message((Turn("user", "Hi"),), conversation=name)

    conversations.remember(named("a"), "small", "Hello")
    assert conversations.adjust(route(0.1, 0.9), named("a"), STICKY, PRICES).model == "small"
    assert conversations.adjust(route(0.1, 0.9), named("b"), STICKY, PRICES).model == "large"


def test_conversations_of_others_are_others(conversations: Conversations) -> None:
    conversations.remember(FIRST, "small", "Yes.", scope="key-1")
    assert conversations.adjust(route(0.1, 0.9), NEXT, STICKY, PRICES, scope="key-2").model == "large"
    assert conversations.adjust(route(0.1, 0.9), NEXT, STICKY, PRICES, scope="key-1").model == "small"


# The prefix is about 1003 tokens, so the small model's cache saves $0.0009, which is 0.09 in score; costs differ by 0.01.
@pytest.mark.parametrize(
    ("gain", "model", "reason"),
    [
        (
            0.09,
            "small",
            "the conversation stays with small: large is not worth reading 1003 tokens again for $0.000903",
        ),
        (0.11, "large", "the conversation changes from small: large is worth reading 1003 tokens again for $0.000903"),
    ],
)
def test_change_must_be_worth_the_lost_cache(
    conversations: Conversations, gain: float, model: str, reason: str
) -> None:
    conversations.remember(FIRST, "small", "Yes.")
    found = conversations.adjust(route(0.5, 0.5 + gain), NEXT, SPEC, PRICES)
    assert found.model == model
    assert reason in found.reasons


def test_weight_of_a_change_is_a_setting(conversations: Conversations) -> None:
    conversations.remember(FIRST, "small", "Yes.")
    free = Composite("auto", "Two models.", ("small", "large"), "small", switch_weight=0.0)
    assert conversations.adjust(route(0.5, 0.52), NEXT, free, PRICES).model == "large"


def test_cache_that_has_gone_cold_is_not_lost(conversations: Conversations, clock: Clock) -> None:
    conversations.remember(FIRST, "small", "Yes.")
    clock.now += 301
    found = conversations.adjust(route(0.5, 0.52), NEXT, SPEC, PRICES)
    assert found.model == "large"
    assert "saves nothing now" in found.reasons[-1]


@pytest.mark.parametrize("found", [route(None, None), route(0.5, 0.6, weight=None)])
def test_policy_that_cannot_weigh_decides_each_turn(conversations: Conversations, found: Route) -> None:
    conversations.remember(FIRST, "small", "Yes.")
    adjusted = conversations.adjust(found, NEXT, SPEC, PRICES)
    assert (adjusted.model, len(adjusted.reasons)) == ("large", 2)


def test_model_that_is_chosen_anyway_needs_no_words(conversations: Conversations) -> None:
    conversations.remember(FIRST, "large", "Yes.")
    found = route(0.5, 0.9)
    assert conversations.adjust(found, NEXT, SPEC, PRICES) is found


def test_memory_is_bounded_in_number_and_time(clock: Clock) -> None:
    conversations = Conversations(most=1, remembered_s=10.0, clock=clock)
    conversations.remember(Message((), conversation="a"), "small", "")
    conversations.remember(Message((), conversation="b"), "small", "")
    assert conversations.adjust(route(0.1, 0.9), Message((), conversation="a"), STICKY, PRICES).model == "large"
    assert conversations.adjust(route(0.1, 0.9), Message((), conversation="b"), STICKY, PRICES).model == "small"
    clock.now += 11.0
    assert conversations.adjust(route(0.1, 0.9), Message((), conversation="b"), STICKY, PRICES).model == "large"
