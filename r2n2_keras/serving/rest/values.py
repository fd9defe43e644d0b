"""Values as JSON text: what an error repeats, and the numbers and strings of an answer."""

import binascii
import itertools
from json.encoder import encode_basestring

import numpy as np

# How many bytes of a value an error repeats.
ECHO_BYTES = 256

# One formatting call for all would keep every other thread waiting.
_CHUNK = 4096

_KINDS = {dict: "Object", list: "Array", str: "String", type(None): "Null"}


def kind(value) -> str:
    """What TensorFlow Serving calls the type of a JSON value."""
    if value is True or value is False:
        return str(value)
    return _KINDS.get(type(value), "Number")


def echo(value) -> str:
    """A value as an error repeats it: on one line, cut near `ECHO_BYTES`."""
    if type(value) is float:
        return float_texts(np.array([value]))[0]
    parts, size = [], 0
    for part in _pieces(value):
        parts.append(part)
        size += len(part.encode("utf-8", "surrogateescape"))
        if size > ECHO_BYTES:
            text = "".join(parts).encode("utf-8", "surrogateescape")
            return text[:ECHO_BYTES].decode("utf-8", "ignore") + "..."
    return "".join(parts)


def _pieces(value):
    """The text of a value bit by bit, without recursion: it may be half a million levels deep."""
    stack = [iter((("", value),))]
    closing = [""]
    while stack:
        for before, item in stack[-1]:
            yield before
            if type(item) is list:
                yield "["
                commas = itertools.chain(("",), itertools.repeat(","))
                stack.append(zip(commas, item, strict=False))
                closing.append("]")
                break
            if type(item) is dict:
                yield "{"
                stack.append(_members(item))
                closing.append("}")
                break
            yield _scalar(item)
        else:
            stack.pop()
            yield closing.pop()


def _members(item):
    comma = ""
    for key, value in item.items():
        yield f"{comma}{quoted(key[: ECHO_BYTES + 1])}:", value
        comma = ","


def _scalar(value):
    if type(value) is str:
        return quoted(value[: ECHO_BYTES + 1])
    if type(value) is float:
        return _double(value)
    return "null" if value is None else str(value).lower()


def _double(value):
    """A float in the fewest digits that give it back, as RapidJSON writes it."""
    if value != value or value in (float("inf"), float("-inf")):
        return float_texts(np.array([value]))[0]
    mantissa, exponent = np.format_float_scientific(value, trim="-").split("e")
    sign = "-" if mantissa.startswith("-") else ""
    digits = mantissa.lstrip("-").replace(".", "")
    digits = digits.rstrip("0") or "0"
    point = int(exponent) + 1
    if len(digits) <= point <= 21:
        return f"{sign}{digits}{'0' * (point - len(digits))}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{point - 1}"


def quoted(text: str) -> str:
    """A string as JSON."""
    return encode_basestring(text)


def float_texts(values: np.ndarray) -> list[str]:
    """Floats as TensorFlow Serving writes them.

    In six digits; where these do not give the number back, in as many as do for its type. Whole
    numbers end with `.0`.

    Args:
        values: float32 or float64, one axis.
    """
    precise = "%.9g " if values.dtype == np.float32 else "%.17g "
    texts = []
    for start in range(0, len(values), _CHUNK):
        texts += _format_chunk(values[start : start + _CHUNK], precise)
    return texts


def _format_chunk(values, precise):
    texts = _bulk("%.6g ", values)
    with np.errstate(over="ignore"):
        differ = np.array(list(map(float, texts))).astype(values.dtype) != values
    if differ.any():
        where = np.flatnonzero(differ).tolist()
        for index, text in zip(where, _bulk(precise, values[differ]), strict=True):
            texts[index] = text
    texts = [text if "." in text or "e" in text else text + ".0" for text in texts]
    if not np.isfinite(values).all():
        for index in np.flatnonzero(~np.isfinite(values)).tolist():
            texts[index] = _not_finite(values[index])
    return texts


def _bulk(form, values):
    return (form * len(values) % tuple(values.tolist())).split()


def _not_finite(value):
    if np.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def int_texts(values: np.ndarray) -> list[str]:
    """Whole numbers as JSON."""
    return list(map(str, values.tolist()))


def bool_texts(values: np.ndarray) -> list[str]:
    """Booleans as JSON."""
    return ["true" if value else "false" for value in values.tolist()]


def string_texts(values: np.ndarray) -> list[str]:
    """Byte strings as JSON strings; bytes that are not UTF-8 become lone surrogates."""
    return [quoted(value.decode("utf-8", "surrogateescape")) for value in values.tolist()]


def base64_texts(values: np.ndarray) -> list[str]:
    """Byte strings as objects whose member `b64` holds them."""
    return [
        f'{{"b64": "{binascii.b2a_base64(value, newline=False).decode()}"}}'
        for value in values.tolist()
    ]
