"""Answers and errors as JSON text, laid out as TensorFlow Serving does."""

import math

import numpy as np
import tensorflow as tf

from r2n2_keras.serving.rest import dtypes, values
from r2n2_keras.serving.rest.codec import ROW
from r2n2_keras.serving.rest.status import StatusError, invalid

# The texts of TensorFlow name graph nodes at any length.
_ERROR_CHARACTERS = 16_384

_WRITERS = {
    **dict.fromkeys(("float32", "float64"), values.float_texts),
    **dict.fromkeys(("int8", "uint8", "int16", "int32", "int64"), values.int_texts),
    **dict.fromkeys(("uint32", "uint64"), values.int_texts),
    "bool": values.bool_texts,
    "object": values.string_texts,
}


def error(problem: StatusError) -> bytes:
    """The body that tells an error; bytes of the request that are not UTF-8 are replaced."""
    text = problem.message[:_ERROR_CHARACTERS]
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return f'{{\n    "error": {values.quoted(text)}\n}}'.encode()


def predictions(outputs: dict[str, np.ndarray], form: str) -> bytes:
    """The answer to a predict request.

    Args:
        outputs: array of each output of the signature.
        form: `codec.ROW` or `codec.COLUMN`.

    Raises:
        StatusError: an output has no JSON, or in row format no batch axis.
    """
    text = _rows(outputs) if form == ROW else _columns(outputs)
    return text.encode("utf-8", "surrogateescape")


def _rows(outputs):
    batch = None
    for name, array in outputs.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch is not None and len(array) != batch:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}"
            )
        batch = len(array)
    columns = [_nested(name, array, axes=1) for name, array in outputs.items()]
    if len(columns) == 1:
        items = ", ".join(columns[0])
        return f'{{\n    "predictions": [{items}\n    ]\n}}' if items else _NO_ROWS
    keys = [f"            {values.quoted(name)}: " for name in outputs]
    rows = []
    for row in zip(*columns, strict=True):
        members = ",\n".join(map("".join, zip(keys, row, strict=True)))
        rows.append(f"\n        {{\n{members}\n        }}")
    return f'{{\n    "predictions": [{",".join(rows)}\n    ]\n}}' if rows else _NO_ROWS


_NO_ROWS = '{\n    "predictions": []\n}'


def _columns(outputs):
    texts = {name: _nested(name, array, axes=0)[0] for name, array in outputs.items()}
    if len(texts) == 1:
        return f'{{\n    "outputs": {next(iter(texts.values()))}\n}}'
    members = ",\n".join(f"        {values.quoted(name)}: {text}" for name, text in texts.items())
    return f'{{\n    "outputs": {{\n{members}\n    }}\n}}'


def _nested(name, array, axes):
    """The text of each part of an array along its first `axes`, lists within lists."""
    texts = _leaves(name, array)
    shape = array.shape
    for axis in range(array.ndim - 1, axes - 1, -1):
        size, count = shape[axis], math.prod(shape[:axis])
        texts = [f"[{', '.join(texts[i * size : (i + 1) * size])}]" for i in range(count)]
    return texts


def _leaves(name, array):
    if not array.size:
        return []
    flat = array.reshape(-1)
    if array.dtype == object and name.endswith("_bytes"):
        return values.base64_texts(flat)
    writer = _WRITERS.get(array.dtype.name)
    if writer is None:
        kind = dtypes.name(tf.as_dtype(array.dtype).as_datatype_enum)
        raise invalid(f"Failed to write JSON value for tensor type: {kind}")
    return writer(flat)


def classifications(labels: np.ndarray | None, scores: np.ndarray | None) -> bytes:
    """The answer to a classify request.

    Args:
        labels: byte strings, `(examples, classes)`, or None.
        scores: float32 of the same shape, or None.
    """
    shape = (scores if labels is None else labels).shape
    names = ['""'] * math.prod(shape) if labels is None else values.string_texts(labels.reshape(-1))
    scores = np.zeros(shape, np.float32) if scores is None else scores
    pairs = zip(names, values.float_texts(scores.reshape(-1)), strict=True)
    texts = [f"[{label}, {score}]" for label, score in pairs]
    rows = [f"[{', '.join(texts[i * shape[1] : (i + 1) * shape[1]])}]" for i in range(shape[0])]
    return _results(rows)


def regressions(numbers: np.ndarray) -> bytes:
    """The answer to a regress request, of float32 numbers along one axis."""
    return _results(values.float_texts(numbers))


def _results(texts):
    text = f'{{\n    "results": [{", ".join(texts)}\n    ]\n}}'
    return text.encode("utf-8", "surrogateescape")
