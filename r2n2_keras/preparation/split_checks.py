"""Checks of a split: models that are in two parts of it, so that a test is no test."""

import dataclasses
import json
from collections.abc import Iterable

from r2n2_keras.data import splits
from r2n2_keras.data.objects import Key
from r2n2_keras.errors import InputError
from r2n2_keras.preparation.problems import Kind, Problem


def check_split_file(path: str) -> list[Problem]:
    """The models that a Pix2Vox file names in two parts; leaving one out does not mend the file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        splits.assign([], "pix2vox", path)
        return []
    except InputError as error:
        refused = error
    try:
        with open(path) as file:
            named = [
                ((category["taxonomy_id"], model_id), part)
                for category in json.load(file)
                for part in splits.SPLITS
                for model_id in category[part]
            ]
        problems = in_two_parts(named, path)
    except (OSError, ValueError, KeyError, TypeError):
        raise refused from None
    return [dataclasses.replace(problem, key=None) for problem in problems]


def in_two_parts(named: Iterable[tuple[Key, str]], path: str) -> list[Problem]:
    """The models that a file names in two parts of the split.

    Args:
        named: models and parts, as the file has them.
        path: of the file.
    """
    parts: dict[Key, set[str]] = {}
    for key, part in named:
        parts.setdefault(key, set()).add(part)
    return [
        Problem(
            Kind.SPLITS,
            f"{'/'.join(key)} in {path}",
            f"expected a model in one split, received it in {' and '.join(sorted(found))}",
            key,
        )
        for key, found in parts.items()
        if len(found) > 1
    ]
