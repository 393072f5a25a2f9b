"""A catalogue file that tests begin with."""

from __future__ import annotations

from pathlib import Path

OWN = """
[models.gpt]
kind = "openai"
base_url = "http://localhost:1/v1"
api_key_env = "GPT_KEY"
input = 2
output = 8

[models.big]
kind = "openai"
input = 10
output = 30

[models.big.deployments.east]
base_url = "http://east:1/v1"
weight = 3

[models.big.deployments.west]
base_url = "http://west:1/v1"
max_concurrent = 8

[composites.mix]
description = "Both."
candidates = ["gpt", "big"]
fallback = "gpt"
fallbacks = ["local-sm"]
"""


def own(folder: Path, text: str = OWN, name: str = "own.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path
