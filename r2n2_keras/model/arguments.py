"""Which arguments of `R2N2` make a network."""

import math
import operator
from collections.abc import Iterable

from r2n2_keras.model.image_spec import ALPHAS

_CHOICES = {
    "alpha": ALPHAS,
    "encoder_pooling": ("padded", "valid"),
    "recurrence": ("gru", "lstm"),
    "gate_input_bias": (False, True),
    "upsampling": ("zeros", "nearest"),
    "initialization": ("original", "pytorch"),
}
_SIZES = ("image_size", "channels", "features", "grid_edge", "hidden_channels")
_NUMBERS = {
    **{name: {} for name in _SIZES},
    "background": {"least": 0, "most": 255},
    "recurrent_kernel_size": {"odd": True},
    "grid_upsamplings": {"least": 0},
}
_SLOPES = ("encoder_slope", "features_slope", "decoder_slope")
_SHORTCUTS = {
    "encoder_shortcuts": ("none", "identity", "conv"),
    "decoder_shortcuts": ("none", "identity", "conv", "inner_conv"),
}


def checked(arguments: dict) -> dict:
    """The arguments as plain numbers, text and tuples; a ValueError if they make no network."""
    arguments = dict(arguments)
    for name, choices in _CHOICES.items():
        _require(arguments[name] in choices, f"{name} to be one of {choices}", name, arguments)
    arguments["gate_input_bias"] = bool(arguments["gate_input_bias"])
    for name, bounds in _NUMBERS.items():
        arguments[name] = _integer(arguments[name], name, arguments, **bounds)
    for name in ("encoder_filters", "encoder_kernel_sizes", "decoder_filters"):
        expected = f"{name} to be a list of integers, one at least"
        values = _sequence(name, expected, arguments)
        _require(values, expected, name, arguments)
        odd = name == "encoder_kernel_sizes"
        arguments[name] = tuple(_integer(value, name, arguments, odd=odd) for value in values)
    for name in _SLOPES:
        arguments[name] = _slope(name, arguments)
    _check_encoder(arguments)
    _check_decoder(arguments)
    return arguments


def _check_encoder(arguments):
    filters = arguments["encoder_filters"]
    name = "encoder_kernel_sizes"
    fits = len(arguments[name]) == len(filters)
    _require(fits, f"{len(filters)} {name}, one per stage", name, arguments)
    name = "image_size"
    smallest = 2 ** len(filters) if arguments["encoder_pooling"] == "valid" else 1
    expected = f"{name} of at least {smallest}, which {len(filters)} stages halve"
    _require(arguments[name] >= smallest, expected, name, arguments)
    _check_shortcuts("encoder_shortcuts", (arguments["channels"], *filters), arguments)


def _check_decoder(arguments):
    name = "decoder_filters"
    filters = arguments[name]
    _require(filters[-1] in (1, 2), f"the last of {name} to be 1 or 2", name, arguments)
    name = "grid_upsamplings"
    expected = f"{name} of at most {len(filters)}, the decoder's blocks"
    _require(arguments[name] <= len(filters), expected, name, arguments)
    widths = (arguments["hidden_channels"], *filters[:-1])
    _check_shortcuts("decoder_shortcuts", widths, arguments)


def _check_shortcuts(name, widths, arguments):
    """`widths` are the channels before the first block with a shortcut, and after each."""
    if arguments[name] is None:
        return
    choices, number = _SHORTCUTS[name], len(widths) - 1
    expected = f"None or {number} {name} out of {choices}"
    shortcuts = _sequence(name, expected, arguments)
    fits = len(shortcuts) == number and all(shortcut in choices for shortcut in shortcuts)
    _require(fits, expected, name, arguments)
    for shortcut, before, after in zip(shortcuts, widths, widths[1:], strict=False):
        expected = f"the identity in {name} between equal filters only, not {before} and {after}"
        _require(shortcut != "identity" or before == after, expected, name, arguments)
    arguments[name] = shortcuts


def _integer(value, name, arguments, least=1, most=2**31, odd=False):
    try:
        number = operator.index(value)  # NumPy's integers too
    except TypeError:
        number = -1
    fits = number >= least and (number % 2 or not odd) and not isinstance(value, bool)
    expected = f"{name} to be {'an odd integer' if odd else 'an integer'} of at least {least}"
    _require(fits, expected, name, arguments)
    _require(number <= most, f"{name} to be at most {most}", name, arguments)
    return number


def _slope(name, arguments):
    value = arguments[name]
    try:
        slope = value if isinstance(value, int) else float(value)
    except (TypeError, ValueError):
        slope = math.nan
    fits = 0 < slope <= 1 and not isinstance(value, str | bool)
    _require(fits, f"{name} to be a number above 0, and at most 1", name, arguments)
    return slope


def _sequence(name, expected, arguments):
    value = arguments[name]
    fits = isinstance(value, Iterable) and not isinstance(value, str)
    _require(fits, expected, name, arguments)
    return tuple(value)


def _require(holds, expected, name, arguments):
    if not holds:
        raise ValueError(f"Expected {expected}. Received: {name}={arguments[name]!r}")
