from __future__ import annotations

from dataclasses import replace

import pytest

from modelyard.catalog import BaseModel, Composite, Price
from modelyard.routing import LearnedPolicy
from modelyard.routing.conversation import Conversations, prefix_tokens
from modelyard.tasks import RuleClassifier
from modelyard.types import Candidate, Message, Route, Turn
from tests.unit.routing.toy import router
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


# What OpenAI charges, in USD per million tokens. The conversation is about 8,000 tokens long.
MINI = BaseModel("mini", "recorded", Price(input=0.4, output=1.6, cached_input=0.1))
FULL = BaseModel("full", "recorded", Price(input=2.0, output=8.0, cached_input=0.5))
LONG = Message((Turn("user", "How do I centre a div? " + "x" * 32_000),))
LATER = Message((*LONG.turns, Turn("assistant", "Yes."), Turn("user", "ok thanks, go on")))


def weighed(conversations: Conversations, last: str, qualities: dict[str, float], message: Message = LATER) -> Route:
    """What a learned policy chooses after `last` answered, with the prices above and 100 tokens an answer."""
    conversations.remember(LONG, last, "Yes.")
    policy, models = LearnedPolicy(router(qualities)), (MINI, FULL)
    task = RuleClassifier().classify(message)
    found = policy.route(message, task, models, cost_weight=10.0)
    prices = {model.name: model.price for model in models}
    return conversations.adjust(found, message, Composite("auto", "", ("mini", "full"), "mini"), prices)


def test_candidates_are_priced_by_the_whole_conversation(conversations: Conversations) -> None:
    found = weighed(conversations, "full", {"mini": 0.7, "full": 0.7})
    costs = {candidate.model: candidate.cost_usd for candidate in found.candidates}
    tokens = round((len(LONG.prompt) + 4 + 16) / 4)
    assert costs == {
        "mini": pytest.approx((0.4 * tokens + 1.6 * 100) / 1e6),
        "full": pytest.approx((2.0 * tokens + 8.0 * 100) / 1e6),
    }


def test_cheap_model_is_cheaper_than_a_dear_ones_warm_cache(conversations: Conversations) -> None:
    # Reading 8,000 tokens anew costs mini $0.0032; full would pay $0.0040 for them out of its cache, and more for its answer.
    found = weighed(conversations, "full", {"mini": 0.7, "full": 0.7})
    assert found.model == "mini"
    assert found.reasons[-1].startswith("the conversation changes from full: mini is worth reading 800")


def test_dear_model_must_be_worth_the_whole_conversation_at_its_price(conversations: Conversations) -> None:
    # $0.0168 instead of $0.0010 (cached): with 10 in score per USD, a gain of 0.158 pays for it.
    for gain, model in ((0.14, "mini"), (0.17, "full")):
        found = weighed(conversations, "mini", {"mini": 0.5, "full": 0.5 + gain})
        assert found.model == model


def test_lost_cache_holds_the_descriptions_of_tools() -> None:
    tools = [{"type": "function", "function": {"name": "look", "description": "x" * 40_000}}]
    assert prefix_tokens(replace(LATER, parameters={"tools": tools})) - prefix_tokens(LATER) > 10_000
