"""Which models nobody can reach now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelyard.catalog.records import Catalog


def unreachable_models(catalog: Catalog, states: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each model that is switched on and none of whose deployments has a closed breaker.

    Args:
        catalog: The models.
        states: What is known of deployments, by name; one that is not known was never called.
    """
    for model in catalog.models.values():
        asked = [deployment.name for deployment in model.deployments if deployment.enabled]
        found = [states[name] for name in asked if name in states]
        if model.available and asked and len(found) == len(asked) and all(one["breaker"] != "closed" for one in found):
            last = next((str(one["last_error"]) for one in found if one["last_error"]), "it keeps failing")
            yield f"The model {model.name!r} cannot be reached at any of its deployments ({', '.join(asked)}): {last}"
