"""Which arguments of `R2N2` make a network."""

import math
import operator

from r2n2_keras.model.image_spec import ALPHAS

_CHOICES = {
    "alpha": ALPHAS,
    "encoder_pooling": ("padded", "valid"),
    "recurrence": ("gru", "lstm"),
    "upsampling": ("zeros", "nearest"),
    "initialization": ("original", "pytorch"),
}
_SIZES = ("image_size", "channels", "features", "grid_edge", "hidden_channels")
_SLOPES = ("encoder_slope", "features_slope", "decoder_slope")
_SHORTCUTS = {
    "encoder_shortcuts": ("none", "identity", "conv"),
    "decoder_shortcuts": ("none", "identity", "conv", "inner_conv"),
}


def checked(arguments: dict) -> dict:
    """The arguments as JSON keeps them: plain numbers, text and tuples.

    Raises:
        ValueError: they do not make a network.
    """
    arguments = dict(arguments)
    for name, choices in _CHOICES.items():
        if arguments[name] not in choices:
            raise _error(f"{name} to be one of {choices}", name, arguments)
    for name in _SIZES:
        arguments[name] = _number(name, arguments)
    arguments["background"] = _number("background", arguments, least=0)
    if arguments["background"] > 255:
        raise _error("background to be at most 255", "background", arguments)
    arguments["recurrent_kernel_size"] = _number("recurrent_kernel_size", arguments, odd=True)
    for name in ("encoder_filters", "encoder_kernel_sizes", "decoder_filters"):
        odd = name == "encoder_kernel_sizes"
        arguments[name] = _numbers(name, arguments, odd)
    for name in _SLOPES:
        arguments[name] = _slope(name, arguments)
    if arguments["gate_input_bias"] not in (True, False):
        raise _error("gate_input_bias to be True or False", "gate_input_bias", arguments)
    arguments["gate_input_bias"] = bool(arguments["gate_input_bias"])
    _check_encoder(arguments)
    _check_decoder(arguments)
    return arguments


def _check_encoder(arguments):
    stages = len(arguments["encoder_filters"])
    if len(arguments["encoder_kernel_sizes"]) != stages:
        raise _error(
            f"{stages} encoder_kernel_sizes, one per stage", "encoder_kernel_sizes", arguments
        )
    smallest = 2**stages if arguments["encoder_pooling"] == "valid" else 1
    if arguments["image_size"] < smallest:
        raise _error(
            f"image_size of at least {smallest}, which {stages} stages halve",
            "image_size",
            arguments,
        )
    widths = (arguments["channels"], *arguments["encoder_filters"])
    _check_shortcuts("encoder_shortcuts", widths, stages, arguments)


def _check_decoder(arguments):
    filters = arguments["decoder_filters"]
    if filters[-1] not in (1, 2):
        raise _error("the last of decoder_filters to be 1 or 2", "decoder_filters", arguments)
    name = "grid_upsamplings"
    arguments[name] = _number(name, arguments, least=0)
    if arguments[name] > len(filters):
        raise _error(f"{name} of at most {len(filters)}, the decoder's blocks", name, arguments)
    widths = (arguments["hidden_channels"], *filters)
    _check_shortcuts("decoder_shortcuts", widths, len(filters) - 1, arguments)


def _check_shortcuts(name, widths, number, arguments):
    if arguments[name] is None:
        return
    choices = _SHORTCUTS[name]
    expected = f"None or {number} {name} out of {choices}"
    shortcuts = _sequence(name, expected, arguments)
    if len(shortcuts) != number or not all(shortcut in choices for shortcut in shortcuts):
        raise _error(expected, name, arguments)
    for shortcut, before, after in zip(shortcuts, widths, widths[1:], strict=False):
        if shortcut == "identity" and before != after:
            raise _error(
                f"the identity in {name} between equal filters only, not {before} and {after}",
                name,
                arguments,
            )
    arguments[name] = shortcuts


def _number(name, arguments, least=1, odd=False):
    return _as_number(arguments[name], name, arguments, least, odd)


def _numbers(name, arguments, odd):
    values = _sequence(name, f"{name} to be a list of integers", arguments)
    if not values:
        raise _error(f"{name} to be a list of integers, one at least", name, arguments)
    return tuple(_as_number(value, name, arguments, 1, odd) for value in values)


def _as_number(value, name, arguments, least, odd):
    expected = f"{name} to be {'an odd integer' if odd else 'an integer'} of at least {least}"
    try:
        number = operator.index(value)  # NumPy's integers too
    except TypeError:
        raise _error(expected, name, arguments) from None
    if isinstance(value, bool) or number < least or (odd and number % 2 == 0):
        raise _error(expected, name, arguments)
    return number


def _slope(name, arguments):
    value = arguments[name]
    try:
        slope = value if isinstance(value, int) else float(value)
    except (TypeError, ValueError):
        slope = math.nan
    if isinstance(value, (str, bool)) or not 0 < slope <= 1:
        raise _error(f"{name} to be a number above 0, and at most 1", name, arguments)
    return slope


def _sequence(name, expected, arguments):
    value = arguments[name]
    try:
        return tuple(None if isinstance(value, str) else value)
    except TypeError:
        raise _error(expected, name, arguments) from None


def _error(expected, name, arguments):
    return ValueError(f"Expected {expected}. Received: {name}={arguments[name]!r}")
