"""JSON to arrays and back, by TensorFlow Serving's rules.

Number tokens are int or float as they are written: 1 is an int, 1.0 is a float.
"""

import binascii
import itertools
import math
import re
import reprlib
from json.encoder import encode_basestring as quoted

import numpy as np
import rapidjson
import tensorflow as tf

from r2n2_keras.standin import status

# A body of brackets alone would become a hundred times as large; pictures of pixels have a list for
# each pixel, which this leaves ample room for.
MAX_CONTAINERS = 4_000_000
MAX_AXES = 30  # NumPy has few more

# Small integers are taken in the range of int32, and wrap.
_INTEGERS = {
    **dict.fromkeys((tf.int8, tf.uint8, tf.int16, tf.int32), (np.int64, -(2**31), 2**31 - 1)),
    tf.int64: (np.int64, -(2**63), 2**63 - 1),
    tf.uint32: (np.int64, 0, 2**32 - 1),
    tf.uint64: (np.uint64, 0, 2**64 - 1),
}
# The JSON values that each type of tensor is made of.
_TAKES = {
    **{dtype: {int} for dtype in _INTEGERS},
    **dict.fromkeys((tf.float32, tf.float64), (int, float)),
    tf.bool: {bool},
    tf.string: {str, dict},
}
# White space and missing padding are taken.
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]*[=\s]*")
_FOLLOWED = re.compile(r"offset (\d+): The document root must not be followed by other values")
# One formatting call for all numbers would keep every other thread waiting.
_CHUNK = 4096
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}

_decode = rapidjson.Decoder(number_mode=rapidjson.NM_NATIVE | rapidjson.NM_NAN)


def parse(text: bytes | bytearray) -> dict:
    """The object in a request's body, whatever follows; OpError if none, too much or too deep."""
    if text.count(b"[") + text.count(b"{") > MAX_CONTAINERS:
        raise status.invalid(f"Expected at most {MAX_CONTAINERS} lists and objects, received more.")
    text = text.removeprefix(b"\xef\xbb\xbf")
    try:
        try:
            request = _decode(text)
        except rapidjson.JSONDecodeError as error:
            if not (end := _FOLLOWED.search(str(error))):
                raise
            request = _decode(text[: int(end[1])])
    except RecursionError:
        raise status.invalid("Expected lists in a few levels, received too many.") from None
    except ValueError as error:
        raise status.invalid(f"Expected JSON in UTF-8, received what is none: {error}") from None
    if type(request) is not dict or type(request.get("signature_name", "")) is not str:
        raise status.invalid("Expected a JSON object, any signature_name in it a string.")
    return request


def feeds(request: dict, inputs: dict[str, tf.DType]) -> tuple[bool, dict[str, np.ndarray]]:
    """Whether a predict request is in row format (`instances`), and the array of each input.

    `inputs` has the type of each input of the signature; OpError where the request does not fit it.
    """
    if ("instances" in request) == ("inputs" in request):
        raise status.invalid("Expected either `instances` or `inputs`, received both or neither.")
    if "inputs" in request:
        return False, _of_columns(request["inputs"], inputs)
    try:
        return True, _of_columns(_columns(request["instances"], inputs), inputs)
    except tf.errors.OpError as error:  # in this format always the client's mistake
        raise status.invalid(error.message) from None


def _columns(instances, inputs):
    if type(instances) is list and instances:
        if not _is_object(instances[0]):
            return {_only(inputs): instances}
        if all(_is_object(one) and one.keys() == inputs.keys() for one in instances):
            return {name: [one[name] for one in instances] for name in inputs}
    names = ", ".join(inputs)
    raise status.invalid(f"Expected a list of `instances`, each of {names}, received another.")


def _of_columns(columns, inputs):
    if not _is_object(columns):
        columns = {_only(inputs): columns}
    if missing := inputs.keys() - columns.keys():
        raise status.invalid(f"Expected {', '.join(missing)} in `inputs`, received none.")
    return {name: _array(columns[name], name, dtype) for name, dtype in inputs.items()}


def _only(inputs):
    if len(inputs) > 1:
        raise status.invalid(f"Expected objects of {', '.join(inputs)}, received another value.")
    return next(iter(inputs))


def _is_object(value):
    return type(value) is dict and not _is_base64(value)


def _is_base64(value):
    return len(value) == 1 and type(value.get("b64")) is str


def _array(value, name, dtype):
    shape, level = [], [value]
    while level and type(level[0]) is list:
        if len(shape) == MAX_AXES:
            raise status.invalid(f"Expected at most {MAX_AXES} axes for {name}, received more.")
        size = len(level[0])
        if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
            raise status.invalid(f"Expected lists of one length for {name}, received several.")
        shape.append(size)
        level = level[0] if len(level) == 1 else list(itertools.chain.from_iterable(level))
    return _values(level, name, dtype).reshape(shape)


def _values(leaves, name, dtype):
    if leaves and dtype not in _TAKES:
        raise status.error("UNIMPLEMENTED", f"{name} is {dtype.name}, which JSON cannot be made.")
    if set(map(type, leaves)).difference(_TAKES.get(dtype, ())):
        raise _unfit(next(one for one in leaves if type(one) not in _TAKES[dtype]), name, dtype)
    if dtype == tf.string:
        strings = np.empty(len(leaves), object)
        strings[:] = [_string(leaf, name) for leaf in leaves]
        return strings
    wide, least, most = _INTEGERS.get(dtype, (np.float64, -math.inf, math.inf))
    if dtype in _INTEGERS and leaves:
        for value in (min(leaves), max(leaves)):
            if not least <= value <= most:
                raise _unfit(value, name, dtype)
    with np.errstate(over="ignore"):
        return np.array(leaves, wide).astype(dtype.as_numpy_dtype)


def _string(leaf, name):
    if type(leaf) is str:
        return leaf.encode()
    try:
        if _is_base64(leaf) and _BASE64.fullmatch(leaf["b64"]):
            return binascii.a2b_base64(leaf["b64"] + "==")
    except ValueError:
        pass
    raise _unfit(leaf, name, tf.string)


def _unfit(value, name, dtype):
    return status.invalid(f"Expected {dtype.name} for {name}, received {reprlib.repr(value)}.")


def predictions(outputs: dict[str, np.ndarray], rows: bool) -> bytes:
    """The answer to a predict request, in row format or not, of the array of each output.

    OpError where an output has no JSON, or in row format no batch axis like the others'.
    """
    if rows:
        text = f'{{\n    "predictions": {_rows(outputs)}\n}}'
    else:
        texts = [_nested(name, outputs[name])[0] for name in outputs]
        text = f'{{\n    "outputs": {_members(outputs, texts)}\n}}'
    return text.encode("utf-8", "surrogateescape")


def _rows(outputs):
    sizes = {array.shape[:1] for array in outputs.values()}
    if len(sizes) > 1 or () in sizes:
        raise status.invalid(
            "Expected outputs with one batch axis for a request of `instances`, received shapes "
            f"{', '.join(str(list(array.shape)) for array in outputs.values())}. Ask with `inputs`."
        )
    columns = [_nested(name, outputs[name], axes=1) for name in outputs]
    return f"[{', '.join(_members(outputs, row) for row in zip(*columns, strict=True))}]"


def _members(names, texts):
    """What holds the text of each output; one alone goes without its name."""
    if len(texts) == 1:
        return texts[0]
    pairs = zip(names, texts, strict=True)
    return f"{{{', '.join(f'{quoted(name)}: {text}' for name, text in pairs)}}}"


def _nested(name, array, axes=0):
    """The text of each part of an array along its first `axes`, lists within lists."""
    texts, shape = _texts(name, array.reshape(-1)), array.shape
    for axis in range(len(shape) - 1, axes - 1, -1):
        size, count = shape[axis], math.prod(shape[:axis])
        texts = [f"[{', '.join(texts[i * size : (i + 1) * size])}]" for i in range(count)]
    return texts


def _texts(name, values):
    if values.dtype == object and name.endswith("_bytes"):
        encoded = (binascii.b2a_base64(value, newline=False).decode() for value in values)
        return [f'{{"b64": "{text}"}}' for text in encoded]
    if values.dtype == object:  # bytes that are not UTF-8 are sent as they are
        return [quoted(value.decode("utf-8", "surrogateescape")) for value in values]
    dtype = tf.as_dtype(values.dtype)
    if dtype not in _TAKES:
        raise status.invalid(f"Output {name} is {dtype.name}, which JSON has nothing for.")
    if not dtype.is_floating:
        return [str(value).lower() for value in values.tolist()]
    chunks = range(0, len(values), _CHUNK)
    return [text for start in chunks for text in _float_texts(values[start : start + _CHUNK])]


def _float_texts(values):
    """Floats as TensorFlow Serving writes them: in six digits, or as many as give them back."""
    texts = _format("%.6g ", values)
    with np.errstate(over="ignore"):
        differ = np.flatnonzero(np.array(list(map(float, texts))).astype(values.dtype) != values)
    precise = _format("%.9g " if values.dtype == np.float32 else "%.17g ", values[differ])
    for index, text in zip(differ.tolist(), precise, strict=True):
        texts[index] = text
    texts = [text if "." in text or "e" in text else text + ".0" for text in texts]
    for index in np.flatnonzero(~np.isfinite(values)).tolist():
        texts[index] = _NOT_FINITE[str(float(values[index]))]
    return texts


def _format(form, values):
    return (form * len(values) % tuple(values.tolist())).split()
