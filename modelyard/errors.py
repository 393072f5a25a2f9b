"""What can go wrong, as one tree.

    ModelyardError
    ├── InvalidInput            a value breaks a rule; the sentence names the rule and the value
    │   ├── InvalidTable        … in an outcome table: names file, row and column
    │   ├── InvalidEvalSet      … in an eval set: names file and row
    │   └── InvalidSetting      … in the environment, a TOML file or an option
    ├── UnknownModel            a model or composite name that the catalogue does not serve
    ├── RegistryError
    │   ├── NoChampion          nothing was promoted yet
    │   ├── CorruptModel        a saved model differs from its manifest
    │   └── PromotionRefused    the gate said no, and why
    ├── GenerationError         a base model gave no usable draft
    │   └── UpstreamError       … because its HTTP endpoint failed; carries the status
    ├── BudgetExceeded          a run would cost more than its ceiling
    └── MissingExtra            an optional package is not installed; names the extra

Every message is one sentence for a person.
"""

from __future__ import annotations


class ModelyardError(Exception):
    """Anything that Modelyard raises on purpose."""


class InvalidInput(ModelyardError, ValueError):
    """A value breaks a rule."""


class InvalidTable(InvalidInput):
    """An outcome table breaks a rule."""


class InvalidEvalSet(InvalidInput):
    """An eval set breaks a rule."""


class InvalidSetting(InvalidInput):
    """A setting or option breaks a rule."""


class UnknownModel(InvalidInput):
    """No model or composite of that name is in the catalogue."""


class RegistryError(ModelyardError):
    """The model registry could not do what was asked."""


class NoChampion(RegistryError):
    """Nothing was promoted under that name yet."""


class CorruptModel(RegistryError):
    """A saved model differs from its manifest."""


class PromotionRefused(RegistryError):
    """The gate refused a promotion."""


class GenerationError(ModelyardError):
    """A base model gave no usable draft."""


class UpstreamError(GenerationError):
    """An upstream endpoint failed.

    Args:
        message: One sentence for a person.
        status: The HTTP status, or None where no response came.
        retryable: Whether the same call may succeed later.
    """

    def __init__(self, message: str, *, status: int | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = retryable


class BudgetExceeded(ModelyardError):
    """A run would cost more than its ceiling."""


class MissingExtra(ModelyardError, ImportError):
    """An optional package is not installed."""
