"""Is the eval set a real routing problem for these models? Oracle against best single model, and who is best where.

python benchmarks/routing_problem.py .yard/outcomes/web_tasks.parquet
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from modelyard.catalog import load_catalog, realised_costs
from modelyard.outcomes import OutcomeMatrix, read_outcomes


def main(path: Path) -> None:
    """Print the figures."""
    table = read_outcomes(path)
    catalog = load_catalog()
    names = sorted(set(table.column("model").to_pylist()), key=lambda name: catalog.price(name).cost(100, 100))
    matrix = OutcomeMatrix.of(table, names, str(path)).complete()
    costs = realised_costs(matrix, {name: catalog.price(name) for name in names}, catalog.models)
    scores = matrix.scores
    best = scores.max(axis=1, keepdims=True)
    tied = scores >= best - 1e-12
    cheapest_of_tied = np.where(tied, costs, np.inf).argmin(axis=1)
    for j, name in enumerate(names):
        alone = tied[:, j] & (tied.sum(axis=1) == 1)
        first = cheapest_of_tied == j
        shares = f"uniquely best {alone.mean():.3f}  uniquely best, or equal and cheaper {first.mean():.3f}"
        print(f"{name:<12} mean score {scores[:, j].mean():.3f}  {shares}")
    oracle, single = float(best.mean()), float(scores.mean(axis=0).max())
    print(f"oracle {oracle:.3f}, best single model {single:.3f}, difference {oracle - single:.3f}, n = {len(matrix)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
