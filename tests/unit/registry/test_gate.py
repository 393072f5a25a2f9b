from __future__ import annotations

from typing import Any

import pytest

from modelyard.errors import PromotionRefused
from modelyard.registry.gate import MINIMUM_N, check_gate
from modelyard.registry.verdict import Difference
from tests.unit.registry.yard import verdict

CHEAPER = {"score": Difference(0.0, -0.01, 0.01), "cost": Difference(-0.002, -0.003, -0.001)}


@pytest.mark.parametrize("champion", [None, "2"])
@pytest.mark.parametrize("changes", [{}, CHEAPER, {"n": MINIMUM_N}])
def test_passing_verdict_about_exactly_this_move_is_let_through(champion: str | None, changes: dict[str, Any]) -> None:
    check_gate(verdict("3", champion, **changes), "router", "3", champion)


@pytest.mark.parametrize(
    ("about", "changes", "champion", "sentence"),
    [
        (("3", "2"), {"component": "classifier"}, "2", "the verdict is about a classifier"),
        (("4", "2"), {}, "2", "the verdict is about version 4 "),
        ((None, "2"), {}, "2", "about an unregistered challenger"),
        (("3", "3"), {}, "3", "it is the champion already"),
        (("3", "1"), {}, "2", "against champion 1, but champion 2 serves now"),
        (("3", None), {}, "2", "against the baseline cheapest, but champion 2 serves now"),
        (("3", "2"), {}, None, "against champion 2, but no champion serves now"),
        (("3", "2"), {"n": MINIMUM_N - 1}, "2", f"rests on {MINIMUM_N - 1} prompts; at least {MINIMUM_N}"),
        (("3", "2"), {"score": Difference(0.1, 0.0, 0.2)}, "2", "is inconclusive against champion"),
        (("3", "2"), {"score": Difference(-0.1, -0.2, -0.05)}, "2", "is worse against champion"),
    ],
)
def test_refusal_names_the_rule(
    about: tuple[str | None, str | None], changes: dict[str, Any], champion: str | None, sentence: str
) -> None:
    with pytest.raises(PromotionRefused, match=f"^Cannot promote router 3: .*{sentence}"):
        check_gate(verdict(*about, **changes), "router", "3", champion)
