from __future__ import annotations

from dataclasses import replace

import pytest

from classifiers import routers, tasks
from classifiers.search_spaces import (
    ROUTER_SPACE,
    TASK_SPACE,
    Choice,
    Space,
    router_params,
    router_values,
    task_params,
    task_values,
)


def inside(space: Space, values: dict[str, object]) -> bool:
    return set(values) == set(space) and all(
        values[name] in found.options if isinstance(found, Choice) else found.low <= values[name] <= found.high
        for name, found in space.items()
    )


@pytest.mark.parametrize("name", tasks.CANDIDATES)
def test_classifier_candidates_lie_in_the_space_and_come_back_whole(name: str) -> None:
    params = tasks.CANDIDATES[name]
    values = task_values(params)
    assert inside(TASK_SPACE, values)
    assert task_params(values) == params


@pytest.mark.parametrize("name", routers.CANDIDATES)
def test_router_candidates_lie_in_the_space(name: str) -> None:
    params = routers.CANDIDATES[name]
    values = router_values(params)
    assert inside(ROUTER_SPACE, values)
    back = router_params(values)
    assert back == replace(params, trees=replace(params.trees, depth=back.trees.depth, l2=back.trees.l2))
