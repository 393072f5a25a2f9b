"""What every command's options keep to, checked before anything is read, trained, registered or written."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Final, NoReturn

from modelyard.errors import InvalidSetting
from modelyard.settings import Settings

TARGETS: Final = ("json", "out")  # options that name a file to write
LEAST: Final = {"seed": 0, "folds": 2, "trials": 1, "workers": 1, "concurrency": 1}
WRITERS: Final = frozenset(  # commands that write to the home
    {"demo", "build-index", "train-classifier", "train-router", "tune", "ab-test", "promote", "rollback", "history"}
)


class Parser(argparse.ArgumentParser):
    """Says in one sentence what is wrong, as every other complaint does."""

    def error(self, message: str) -> NoReturn:
        """Raise an InvalidSetting in place of printing the usage and ending the process."""
        raise InvalidSetting(f"{message}; see `{self.prog} --help`.")


def check_options(command: str, args: argparse.Namespace, settings: Settings) -> None:
    """Check numbers, files to write, and the home of a command that writes there.

    Raises:
        InvalidSetting: Names the option or setting, its value and the rule.
    """
    for name, least in LEAST.items():
        value = getattr(args, name, None)
        if value is not None and value < least:
            raise InvalidSetting(f"--{name} must be at least {least}, but got {value}.")
    margin = getattr(args, "margin", None)
    if margin is not None and not (margin > 0.0 and math.isfinite(margin)):
        raise InvalidSetting(f"--margin must be a positive number, but got {margin:g}.")
    for name in TARGETS:
        target = getattr(args, name, None)
        if target is not None:
            _check_target(target, f"--{name} {target}")
    if command in WRITERS:
        _check_folder(settings.home, f"MODELYARD_HOME {settings.home}")


def _check_target(path: Path, what: str) -> None:
    if path.is_dir():
        raise InvalidSetting(f"{what} cannot be written: it is a folder.")
    _check_folder(path.parent, what)


def _check_folder(folder: Path, what: str) -> None:
    """Check that files can be made in a folder, or the folder itself in the nearest one that is there."""
    folder = folder.absolute()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir():
        raise InvalidSetting(f"{what} cannot be written: {nearest} is not a folder.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InvalidSetting(f"{what} cannot be written: the folder {nearest} is read-only for this user.")
