"""Composite language models: trained, A/B-tested, tuned and served.

import modelyard
answer = modelyard.load("auto").ask("How do I label an input?")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelyard.settings import Settings, switch_telemetry_off

if TYPE_CHECKING:
    from modelyard.composite import CompositeModel

__version__ = "0.1.0"
__all__ = ["Settings", "__version__", "load"]

switch_telemetry_off()


def load(name: str = "auto", settings: Settings | None = None) -> CompositeModel:
    """Load a composite model with the champions that serve now; see `modelyard.serving.loading.load`."""
    from modelyard.serving.loading import load as load_composite

    return load_composite(name, settings)
