"""Finds the versions of a model: the folders of a base path whose names are numbers."""

import os
import re

_NUMBER = re.compile(r"\s*\+?([0-9]+)\s*", re.ASCII)
MAX_VERSION = 2**63 - 1


def version_number(name: str) -> int | None:
    """The version that a folder's name says, None where it says none; `007` is 7."""
    found = _NUMBER.fullmatch(name)
    if not found or len(found[1].lstrip("0")) > 19:
        return None
    number = int(found[1])
    return number if number <= MAX_VERSION else None


def find(base_path: str) -> dict[int, str]:
    """Folder of each version in `base_path`; of two names of one number the first in order.

    Raises:
        OSError: the base path cannot be read.
    """
    found = {}
    for name in sorted(os.listdir(base_path)):
        number = version_number(name)
        folder = os.path.join(base_path, name)
        if number is not None and os.path.isdir(folder):
            found.setdefault(number, folder)
    return found


def choose(found: dict[int, str], model) -> dict[int, str]:
    """Those of `found` that the policy of a `model_config.ModelConfig` has served."""
    if model.versions is not None:
        return {number: found[number] for number in model.versions if number in found}
    numbers = sorted(found)
    return {n: found[n] for n in (numbers if model.latest is None else numbers[-model.latest :])}


def fingerprint(folder: str) -> tuple:
    """What changes when the files of a version do: whether it is worth trying again."""
    marks = []
    for parent, _, names in os.walk(folder):
        for path in (parent, *(os.path.join(parent, name) for name in names)):
            try:
                stat = os.stat(path)
            except OSError:  # it went away just now
                continue
            marks.append((path, stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(sorted(marks))
