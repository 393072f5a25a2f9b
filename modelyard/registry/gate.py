"""The promotion gate: a challenger becomes champion only where a verdict about exactly this move says so."""

from __future__ import annotations

from typing import Final

from modelyard.errors import PromotionRefused
from modelyard.registry.verdict import PASSING, Verdict

MINIMUM_N: Final = 50  # below it a percentile bootstrap's 95 % interval covers visibly less than 95 %


def check_gate(verdict: Verdict, component: str, version: str, champion: str | None) -> None:
    """Let a promotion pass, or refuse it.

    Args:
        verdict: What the comparison concluded.
        component: What is to be promoted.
        version: The version to promote.
        champion: The version that serves now, or None.

    Raises:
        PromotionRefused: Names the first rule that is broken. The rules: the verdict is about this component and this version; it is
            against the champion that serves now, or against a baseline where none serves; its margin is positive (`Verdict` holds
            that); it rests on at least `MINIMUM_N` prompts; its outcome is better, or not worse and cheaper.
    """
    what = f"{component} {version}"
    if verdict.component != component:
        raise PromotionRefused(f"Cannot promote {what}: the verdict is about a {verdict.component}.")
    if verdict.challenger_version != version:
        about = f"version {verdict.challenger_version}" if verdict.challenger_version else "an unregistered challenger"
        raise PromotionRefused(f"Cannot promote {what}: the verdict is about {about} ({verdict.challenger}).")
    if verdict.challenger_version == champion:
        raise PromotionRefused(f"Cannot promote {what}: it is the champion already.")
    if verdict.against_version != champion:
        against = (
            f"champion {verdict.against_version}" if verdict.against_version else f"the baseline {verdict.against}"
        )
        serving = f"champion {champion} serves now" if champion else "no champion serves now"
        raise PromotionRefused(f"Cannot promote {what}: the verdict is against {against}, but {serving}.")
    if verdict.n < MINIMUM_N:
        raise PromotionRefused(
            f"Cannot promote {what}: the verdict rests on {verdict.n} prompts; at least {MINIMUM_N} are needed."
        )
    if verdict.outcome not in PASSING:
        raise PromotionRefused(f"Cannot promote {what}: {verdict.sentence}")
