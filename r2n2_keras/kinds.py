"""What a setting is: the kinds of values, each with its range, and what is said of a setting."""

import dataclasses
import math
import re
import types
from typing import Annotated, NamedTuple


class Range(NamedTuple):
    """Whether a value is in its range, and what is expected of it in words."""

    holds: types.FunctionType
    expected: str


def _is_rising(steps):
    return list(steps) == sorted(set(steps)) and min(steps, default=1) > 0


def _are_levels(levels):
    return not levels or (len(levels) == 2 and 0 <= levels[0] <= levels[1] <= 255)


def _are_distinct(values, least, most):
    return all(least < value < most for value in values) and len(values) == len(set(values)) > 0


def _are_some_parts(parts):
    return set(parts) < set(_PARTS) and len(set(parts)) == len(parts)


_PARTS = ("encoder", "recurrence", "decoder")
_ONCE = "at least one, none twice"
_ABOVE_0 = Range(lambda x: 0 < x < math.inf, "a number above 0")
_FROM_0 = Range(lambda x: 0 <= x < math.inf, "0 or a number above 0")
PATH = Range(lambda path: True, "a path")  # with `~` for a home
_FACTORY = re.compile(r"[\w.]+:[\w.]+").fullmatch

Count = Annotated[int, _ABOVE_0]
Limit = Annotated[int, _FROM_0]
Steps = Annotated[int, Range(lambda x: 0 < x < 2**31, "a number above 0, and less than 2**31")]
Seed = Annotated[int, Range(lambda x: 0 <= x < 2**31, "0 to 2**31 - 1")]
Port = Annotated[int, Range(lambda x: 0 <= x < 2**16, "0 to 65535")]
Grey = Annotated[int, Range(lambda x: 0 <= x <= 255, "0 to 255")]
Rate = Annotated[float, _ABOVE_0]
Weight = Annotated[float, _FROM_0]
Part = Annotated[float, Range(lambda x: 0 <= x < 1, "0 to less than 1")]
Probability = Annotated[float, Range(lambda x: 0 < x < 1, "a number between 0 and 1")]
Path = Annotated[str, PATH]
UrlName = Annotated[str, Range(re.compile(r"[^/:]+").fullmatch, "a name without / and :")]

Names = tuple[str, ...]
Paths = Annotated[Names, PATH]
Parts = Annotated[Names, Range(_are_some_parts, f"one or two of {', '.join(_PARTS)}")]
Factories = Annotated[Names, Range(lambda xs: all(map(_FACTORY, xs)), "module:factory")]

Ints = tuple[int, ...]
Views = Annotated[Ints, Range(lambda xs: min(xs, default=0) >= 0, "numbers from 0 on")]
Rising = Annotated[Ints, Range(_is_rising, "a rising list of steps above 0")]
Levels = Annotated[Ints, Range(_are_levels, "two levels from 0 to 255, the lower one first")]
Counts = Annotated[
    Ints, Range(lambda xs: _are_distinct(xs, 0, 2**31), f"numbers of views above 0, {_ONCE}")
]
Probabilities = Annotated[
    tuple[float, ...],
    Range(lambda xs: _are_distinct(xs, 0, 1), f"numbers between 0 and 1, {_ONCE}"),
]


def setting(
    default, help, commands="", *, section, may_change=False, saved=True, rare=False, choices=None
):
    """A setting.

    `help` is a dict where the commands that read it do so in ways of their own, and `choices` has
    what can be typed to a command that does not take every value of the kind. A run may go on
    with another value of what `may_change`, because it says nothing about what is trained on what.
    A run's `flags.cfg` keeps what is `saved`; a long `--help` only names what is `rare`.
    """
    texts = help if isinstance(help, dict) else dict.fromkeys(commands.split(), help)
    metadata = {"section": section, "may_change": may_change, "saved": saved, "rare": rare}
    metadata |= {"help": texts, "choices": choices or {}}
    return dataclasses.field(default=default, metadata=metadata)
