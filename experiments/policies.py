"""Policies by the names that people type: `static:MODEL`, `cheapest`, `rules`, `learned:FOLDER`, `challenger`, `champion`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelyard.errors import InvalidInput, NoChampion
from modelyard.predictors import read_artifact
from modelyard.registry.champions import load_champion
from modelyard.registry.versions import challenger_version, load_version
from modelyard.routing import CheapestPolicy, LearnedPolicy, RouterModel, RoutingPolicy, RulesPolicy, StaticPolicy
from modelyard.settings import Settings
from modelyard.tasks import Classifier, RuleClassifier, open_classifier


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """A policy under the name it was asked for by, and its registered version or None."""

    name: str
    policy: RoutingPolicy
    version: str | None = None


def policy_named(name: str, settings: Settings) -> NamedPolicy:
    """Return the policy of that name.

    Raises:
        InvalidInput: There is no policy of that name.
        NoChampion: The champion was asked for and there is none.
        RegistryError: The challenger was asked for and there is none.
        CorruptModel: A saved router is damaged.
    """
    kind, _, detail = name.partition(":")
    match kind, bool(detail):
        case "static", True:
            return NamedPolicy(name, StaticPolicy(detail))
        case "cheapest", False:
            return NamedPolicy(name, CheapestPolicy())
        case "rules", False:
            return NamedPolicy(name, RulesPolicy())
        case "learned", True:
            router = RouterModel.from_artifact(read_artifact(Path(detail), "router"))
            return NamedPolicy(name, LearnedPolicy(router, name))
        case "challenger", False:
            found = load_version("router", challenger_version("router", settings), settings)
        case "champion", False:
            found = load_champion("router", settings)
            if found is None:
                raise NoChampion("No router was promoted yet: compare with `cheapest`, `rules` or `static:MODEL`.")
        case _:
            raise InvalidInput(
                f"A policy must be static:MODEL, cheapest, rules, learned:FOLDER, challenger or champion, but got {name!r}."
            )
    router = RouterModel.from_artifact(found.artifact)
    return NamedPolicy(name, LearnedPolicy(router, f"router {found.version}"), found.version)


def serving_classifier(settings: Settings) -> Classifier:
    """Return the classifier that serves now: the champion, or the rules where there is none.

    Raises:
        CorruptModel: The champion is damaged.
    """
    found = load_champion("classifier", settings)
    if found is None:
        return RuleClassifier()
    return open_classifier(found.artifact, f"classifier {found.version}", settings)
