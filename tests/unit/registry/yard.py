"""A registry in memory, saved models and verdicts to test with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.errors import RegistryError
from modelyard.predictors import write_artifact
from modelyard.registry.champions import verified_hash
from modelyard.registry.verdict import Difference, Verdict, conclude

MARGIN = 0.02


class MemoryStore:
    """What MLflow does for promotion."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.aliases: dict[tuple[str, str], str] = {}
        self.hashes: dict[tuple[str, str], str] = {}

    def add(self, component: str, version: str) -> None:
        path = self.path(component, version)
        write_artifact(path, component, ({"version": version}, {"weights": np.full(3, float(version))}))
        self.hashes[component, version] = verified_hash(component, path)

    def path(self, component: str, version: str) -> Path:
        return self.folder / component / version

    def alias(self, component: str, alias: str) -> str | None:
        return self.aliases.get((component, alias))

    def set_alias(self, component: str, alias: str, version: str | None) -> None:
        if version is None:
            self.aliases.pop((component, alias), None)
        else:
            self.aliases[component, alias] = version

    def run_of(self, component: str, version: str) -> str | None:
        if (component, version) not in self.hashes:
            raise RegistryError(f"There is no version {version!r} of the {component}.")
        return f"run-of-{version}"

    def sha256(self, component: str, version: str) -> str | None:
        return self.hashes[component, version]

    def fetch(self, component: str, version: str, folder: Path) -> Path:
        return Path(shutil.copytree(self.path(component, version), folder / "model"))


def verdict(version: str | None, champion: str | None, **changes: Any) -> Verdict:
    """A passing verdict about a router."""
    score, cost = Difference(0.05, 0.03, 0.07), Difference(0.0, 0.0, 0.0)
    facts: dict[str, Any] = {
        "component": "router",
        "challenger": "learned",
        "challenger_version": version,
        "against": "champion" if champion else "cheapest",
        "against_version": champion,
        "metric": "score",
        "score": score,
        "cost": cost,
        "margin": MARGIN,
        "n": 400,
        "data": "5f3a",
        "run_id": "run-of-the-comparison",
    } | changes
    facts.setdefault("outcome", conclude(facts["score"], facts["cost"], facts["margin"]))
    return Verdict(**facts)
