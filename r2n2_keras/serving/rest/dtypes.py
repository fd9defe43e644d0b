"""What JSON values each type of tensor takes, and what they become."""

import binascii
import re

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from r2n2_keras.serving.rest import values
from r2n2_keras.serving.rest.status import StatusError, invalid

STRING = types_pb2.DT_STRING
_NUMBERS = {types_pb2.DT_FLOAT: np.float32, types_pb2.DT_DOUBLE: np.float64}
_INT32 = (-(2**31), 2**31 - 1)
# Small integers are taken in the range of int32, and wrap.
_INTEGERS = {
    types_pb2.DT_INT8: (np.int8, *_INT32),
    types_pb2.DT_UINT8: (np.uint8, *_INT32),
    types_pb2.DT_INT16: (np.int16, *_INT32),
    types_pb2.DT_INT32: (np.int32, *_INT32),
    types_pb2.DT_INT64: (np.int64, -(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (np.uint32, 0, 2**32 - 1),
    types_pb2.DT_UINT64: (np.uint64, 0, 2**64 - 1),
}
_PADS = {0: 0, 2: 2, 3: 1}
_ALPHABET = re.compile("[A-Za-z0-9+/]*")
_SPACE = {ord(mark): None for mark in " \t\n\v\f\r"}


def name(dtype: int) -> str:
    """What TensorFlow calls a type in its messages."""
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()


def array(leaves: list, dtype: int):
    """The numbers or strings of a tensor.

    Args:
        leaves: JSON values, no lists.
        dtype: of `types_pb2.DataType`.

    Returns:
        An array with one axis; None where a value does not fit, which `check` then tells.
    """
    kinds = set(map(type, leaves))
    if dtype in _NUMBERS and kinds <= {int, float}:
        with np.errstate(over="ignore"):
            return np.array(leaves, np.float64).astype(_NUMBERS[dtype])
    if dtype in _INTEGERS and kinds <= {int}:
        to, least, most = _INTEGERS[dtype]
        if leaves and (min(leaves) < least or max(leaves) > most):
            return None
        wide = np.uint64 if dtype == types_pb2.DT_UINT64 else np.int64
        return np.array(leaves, wide).astype(to)
    if dtype == types_pb2.DT_BOOL and kinds <= {bool}:
        return np.array(leaves, np.bool_)
    if dtype == STRING and kinds <= {str, dict}:
        try:
            return _strings(leaves)
        except StatusError:
            return None
    return None if leaves else np.zeros((0,), tf.as_dtype(dtype).as_numpy_dtype)


def _strings(leaves):
    strings = np.empty(len(leaves), object)
    for index, leaf in enumerate(leaves):
        strings[index] = base64(leaf) if type(leaf) is dict else to_bytes(leaf)
    return strings


def check(leaf, dtype: int) -> None:
    """Tells whether one value fits.

    Raises:
        StatusError: it does not.
    """
    if type(leaf) is dict:
        if dtype != STRING:
            raise _type_error(leaf, dtype)
        base64(leaf)
    elif dtype in _NUMBERS:
        if type(leaf) not in (int, float):
            raise _type_error(leaf, dtype)
    elif dtype in _INTEGERS:
        _, least, most = _INTEGERS[dtype]
        if type(leaf) is not int or not least <= leaf <= most:
            raise _type_error(leaf, dtype)
    elif dtype in (types_pb2.DT_BOOL, STRING):
        if type(leaf) is not (bool if dtype == types_pb2.DT_BOOL else str):
            raise _type_error(leaf, dtype)
    else:
        raise StatusError(
            "UNIMPLEMENTED",
            f"Conversion of JSON Value: {values.echo(leaf)} to type: {name(dtype)}",
        )


def _type_error(leaf, dtype):
    return invalid(
        f"JSON Value: {values.echo(leaf)} Type: {values.kind(leaf)} is not of expected type: "
        f"{name(dtype)}"
    )


def to_bytes(text: str) -> bytes:
    """The bytes that a string of a request stood for."""
    return text.encode("utf-8", "surrogateescape")


def is_base64(value) -> bool:
    """Whether a value is an object of nothing but a string called `b64`."""
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


def base64(value: dict) -> bytes:
    """What an object with the member `b64` stands for.

    Raises:
        StatusError: it is no such object, or not in the standard alphabet.
    """
    if not is_base64(value):
        raise invalid(f"JSON Value: {values.echo(value)} not formatted correctly for base64 data")
    text = value["b64"]
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return _lenient_base64(text)


def _lenient_base64(text):
    """Decodes with white space, or without padding, as TensorFlow Serving does."""
    text = text.translate(_SPACE)
    body = text.rstrip("=.")
    pads = _PADS.get(len(body) % 4)
    if pads is None or len(text) - len(body) not in (0, pads) or not _ALPHABET.fullmatch(body):
        raise invalid("Unable to base64 decode")
    return binascii.a2b_base64(body + "=" * pads)
