"""What every routing policy promises, and what each of them does."""

from __future__ import annotations

import pytest

from modelyard.catalog import BaseModel
from modelyard.errors import CorruptModel, UnknownModel
from modelyard.predictors import read_artifact, write_artifact
from modelyard.routing import LearnedPolicy, RouterModel, RoutingPolicy, RulesPolicy, StaticPolicy
from modelyard.routing.model import KIND
from modelyard.routing.policies import CheapestPolicy
from modelyard.types import Message
from tests.unit.routing.toy import MESSAGE, MODELS, PROMPTS, QUALITIES, STRANGER, router, task


class PolicyContract:
    """A new policy gets this suite by inheriting it and naming itself in `make`."""

    def make(self) -> RoutingPolicy:
        raise NotImplementedError

    @pytest.mark.parametrize("complexity", ["simple", "moderate", "complex", "unheard-of"])
    @pytest.mark.parametrize("prompt", ["", "How do I centre a div?", "☂" * 9000, "warum?\n\n```js\nx\n```"])
    def test_choice_is_one_of_the_candidates_and_explains_itself(self, prompt: str, complexity: str) -> None:
        route = self.make().route(Message.of(prompt), task(complexity), MODELS)

        assert route.model in {model.name for model in MODELS}
        assert [candidate.model for candidate in route.candidates] == [model.name for model in MODELS]
        assert 0.0 <= route.propensity <= 1.0
        assert route.confidence is None or 0.0 <= route.confidence <= 1.0
        assert route.reasons
        assert all(reason.strip() for reason in route.reasons)

    def test_costs_are_not_negative_and_qualities_are_shares(self) -> None:
        for candidate in self.make().route(MESSAGE, task(), MODELS).candidates:
            assert candidate.cost_usd >= 0.0
            assert candidate.quality is None or 0.0 <= candidate.quality <= 1.0

    def test_no_candidates_are_refused(self) -> None:
        with pytest.raises(UnknownModel, match="candidate"):
            self.make().route(MESSAGE, task(), ())

    def test_same_message_takes_the_same_route(self) -> None:
        policy = self.make()

        assert policy.route(MESSAGE, task(), MODELS) == policy.route(MESSAGE, task(), MODELS)

    def test_single_candidate_is_chosen(self) -> None:
        assert self.make().route(MESSAGE, task(), (MODELS[1],)).model == "middle"

    def test_route_carries_the_policys_name_and_the_policy_a_version(self) -> None:
        policy = self.make()

        assert policy.route(MESSAGE, task(), MODELS).policy == policy.name
        assert policy.version.startswith((policy.name, "router"))


class TestStaticPolicy(PolicyContract):
    def make(self) -> RoutingPolicy:
        return StaticPolicy("middle")

    def test_model_that_is_no_candidate_is_refused(self) -> None:
        with pytest.raises(UnknownModel, match="'middle' is not among the candidates cheap, dear"):
            self.make().route(MESSAGE, task(), (MODELS[0], MODELS[2]))


class TestCheapestPolicy(PolicyContract):
    def make(self) -> RoutingPolicy:
        return CheapestPolicy()

    @pytest.mark.parametrize("order", [MODELS, MODELS[::-1]])
    def test_cheapest_candidate_is_chosen_in_any_order(self, order: tuple[BaseModel, ...]) -> None:
        assert self.make().route(MESSAGE, task("complex"), order).model == "cheap"


class TestRulesPolicy(PolicyContract):
    def make(self) -> RoutingPolicy:
        return RulesPolicy()

    @pytest.mark.parametrize("order", [MODELS, MODELS[::-1]])
    @pytest.mark.parametrize(
        ("complexity", "model"), [("simple", "cheap"), ("moderate", "middle"), ("complex", "dear")]
    )
    def test_complexity_climbs_the_ladder_of_cost(
        self, order: tuple[BaseModel, ...], complexity: str, model: str
    ) -> None:
        assert self.make().route(MESSAGE, task(complexity), order).model == model

    def test_middle_of_two_is_the_dearer(self) -> None:
        assert self.make().route(MESSAGE, task("moderate"), MODELS[:2]).model == "middle"


class TestLearnedPolicy(PolicyContract):
    def make(self) -> RoutingPolicy:
        return LearnedPolicy(router(), "router-3")

    def test_without_a_cost_weight_the_best_predicted_score_wins(self) -> None:
        route = self.make().route(MESSAGE, task(), MODELS, cost_weight=0.0)

        assert route.model == "dear"
        assert {seen.model: seen.quality for seen in route.candidates} == pytest.approx(QUALITIES)

    def test_huge_cost_weight_takes_the_cheapest(self) -> None:
        assert self.make().route(MESSAGE, task(), MODELS, cost_weight=1e6).model == "cheap"

    def test_cost_weight_between_takes_the_model_between(self) -> None:
        # values: 0.3 − 0.01, 0.6 − 0.1, 0.9 − 1.0
        assert self.make().route(MESSAGE, task(), MODELS, cost_weight=10.0).model == "middle"

    @pytest.mark.parametrize(("given", "model"), [(None, "cheap"), (0.0, "dear")])
    def test_routers_own_cost_weight_serves_unless_one_is_given(self, given: float | None, model: str) -> None:
        policy = LearnedPolicy(router(cost_weight=1e6))

        assert policy.route(MESSAGE, task(), MODELS, cost_weight=given).model == model

    def test_equal_values_go_to_the_cheaper(self) -> None:
        policy = LearnedPolicy(router(dict.fromkeys(QUALITIES, 0.5)))
        route = policy.route(MESSAGE, task(), MODELS[::-1], cost_weight=0.0)

        assert (route.model, route.confidence) == ("cheap", pytest.approx(0.5))

    def test_unknown_candidate_is_listed_without_prediction_and_not_chosen(self) -> None:
        route = self.make().route(MESSAGE, task(), (STRANGER, *MODELS), cost_weight=1e6)

        assert route.model == "cheap"
        assert route.candidates[0].model == "stranger"
        assert route.candidates[0].quality is None

    def test_only_unknown_candidates_are_refused(self) -> None:
        with pytest.raises(UnknownModel, match=r"router-3 was trained on cheap, middle, dear .* candidates stranger"):
            self.make().route(MESSAGE, task(), (STRANGER,))

    def test_clear_lead_gives_more_confidence_than_a_narrow_one(self) -> None:
        clear = self.make().route(MESSAGE, task(), MODELS, cost_weight=0.0).confidence
        narrow = LearnedPolicy(router({"cheap": 0.5, "middle": 0.6, "dear": 0.61})).route(MESSAGE, task(), MODELS)

        assert clear is not None
        assert narrow.confidence is not None
        assert 0.5 < narrow.confidence < clear

    def test_saved_router_routes_the_same(self, tmp_path) -> None:
        write_artifact(tmp_path / "router", KIND, router().state())
        rebuilt = RouterModel.from_artifact(read_artifact(tmp_path / "router", KIND))

        assert (rebuilt.predict(PROMPTS) == router().predict(PROMPTS)).all()
        assert LearnedPolicy(rebuilt).route(MESSAGE, task(), MODELS) == self.make().route(MESSAGE, task(), MODELS)

    def test_saved_router_that_lacks_a_part_is_corrupt(self, tmp_path) -> None:
        facts, arrays = router().state()
        write_artifact(tmp_path / "router", KIND, ({**facts, "router": {}}, arrays))

        with pytest.raises(CorruptModel, match="lacks a part"):
            RouterModel.from_artifact(read_artifact(tmp_path / "router", KIND))

    def test_no_prompts_give_no_predictions(self) -> None:
        assert router().predict([]).shape == (0, 3)
