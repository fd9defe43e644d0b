"""Finds the versions of a model: the folders of a base path whose names are numbers."""

import os
from pathlib import Path

_MOST = 2**63 - 1


def find(config) -> dict[int, str]:
    """Folder of each version that a `ModelConfig` wants served; of 007 and 7 the first counts.

    OSError where the base path cannot be read.
    """
    found = {}
    for name in sorted(os.listdir(config.base_path)):
        is_number = name.isascii() and name.isdecimal() and len(name.lstrip("0")) < 20
        folder = os.path.join(config.base_path, name)
        if is_number and int(name) <= _MOST and os.path.isdir(folder):
            found.setdefault(int(name), folder)
    numbers = sorted(found)
    if config.versions is not None:
        numbers = [number for number in numbers if number in config.versions]
    elif config.latest is not None:
        numbers = numbers[-config.latest :]
    return {number: found[number] for number in numbers}


def fingerprint(folder: str) -> dict:
    """What changes when the files of a version do, so that loading it is worth another try."""
    try:
        return {path: path.stat().st_ctime_ns for path in Path(folder).rglob("*")}
    except OSError:  # something went away just now
        return {}
