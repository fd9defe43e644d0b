"""JSON to tensors and back, beside slow and plain ways to do the same."""

import base64
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from r2n2_keras.standin import json_codec

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-3, 3),
    st.floats(-60_000, 60_000, width=16),  # more digits RapidJSON does not read to the last place
    st.text(max_size=4),
    st.builds(lambda b: {"b64": base64.b64encode(b).decode()}, st.binary(max_size=4)),
)
NESTED = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3), max_leaves=12)
ROWS = st.dictionaries(st.sampled_from("ab"), NESTED | st.integers(0, 3), max_size=2)


def _feeds(text, **inputs):
    return json_codec.feeds(json_codec.parse(text.encode()), inputs)[1]


@pytest.mark.parametrize(
    "text", [b"", b"  ", b"instances", b'{"a": 1', b'{"a": 1e400}', b"[1]", b"7", b'{"a": "\xff"}',
             b"\xff{}", b'{"signature_name": 1}', b'{"a": "\\ud800"}', b'{"a":' * 5000,
             b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_no_request(text):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected"):
        json_codec.parse(text)


def test_what_is_taken():
    for text in (b'{"a": [1]} x', b'\xef\xbb\xbf{"a": [1]}{', b'{"a": [1]}\x00'):
        assert json_codec.parse(text) == {"a": [1]}
    numbers = json_codec.parse(b'{"a": [NaN, Inf, -Infinity, 18446744073709551616, 1, 1.0]}')
    assert repr(numbers["a"]) == f"[nan, inf, -inf, {2.0**64}, 1, 1.0]"


def _plain(value, dtype):
    """A tensor made value by value; None where there is none."""
    if type(value) is list:
        parts = [_plain(one, dtype) for one in value]
        if any(part is None for part in parts) or len({part.shape for part in parts}) > 1:
            return None
        return np.stack(parts) if parts else np.zeros(0, dtype.as_numpy_dtype)
    if dtype == tf.string:
        if type(value) not in (str, dict):
            return None
        found = np.empty((), object)
        found[()] = base64.b64decode(value["b64"]) if type(value) is dict else value.encode()
        return found
    if dtype == tf.bool:
        fits = type(value) is bool
    elif dtype.is_integer:
        least, most = (dtype.min, dtype.max) if dtype.size > 4 else (-(2**31), 2**31 - 1)
        fits = type(value) is int and least <= value <= most
    else:
        fits = type(value) in (int, float)
    wide = np.uint64 if type(value) is int and value >= 2**63 else None
    return np.array(value, wide).astype(dtype.as_numpy_dtype) if fits else None


@given(
    NESTED, st.sampled_from([tf.float32, tf.float64, tf.int8, tf.int32, tf.int64, tf.uint64,
                             tf.bool, tf.string])
)  # fmt: skip
def test_a_tensor_is_made_exactly_where_each_value_fits(value, dtype):
    expected = _plain(value, dtype)
    try:
        found = json_codec.feeds({"inputs": value}, {"x": dtype})[1]["x"]
    except tf.errors.InvalidArgumentError:
        assert expected is None
    else:
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert found.tolist() == expected.tolist()


@given(st.lists(ROWS, min_size=1))
def test_rows_of_objects_are_columns(instances):
    inputs = {"a": tf.int32, "b": tf.int32}
    expected = None
    if all(one.keys() == inputs.keys() for one in instances):
        expected = [_plain([one[name] for one in instances], tf.int32) for name in inputs]
    try:
        found = json_codec.feeds({"instances": instances}, inputs)[1]
    except tf.errors.InvalidArgumentError:
        assert expected is None or any(column is None for column in expected)
    else:
        for array, column in zip(found.values(), expected, strict=True):
            assert (array.tolist(), array.shape) == (column.tolist(), column.shape)


@pytest.mark.parametrize(
    "dtype, text, expected",
    [
        ("uint8", "[300, -1]", [44, 255]),
        ("int8", "[200]", [-56]),
        ("uint32", "[4294967295]", [2**32 - 1]),
        ("float32", "[1e39, -1e39, 16777217, 1]", [math.inf, -math.inf, 2**24, 1]),
        ("string", '["é", {"b64": "/w=="}, {"b64": " /\\nw "}]', ["é".encode(), b"\xff", b"\xff"]),
        ("string", '["\\u0000a\\u0000", {"b64": ""}]', [b"\0a\0", b""]),
        ("bfloat16", "[]", []),
    ],
)
def test_values_that_fit(dtype, text, expected):
    assert _feeds(f'{{"inputs": {text}}}', x=tf.as_dtype(dtype))["x"].tolist() == expected


@pytest.mark.parametrize(
    "dtype, text, received",
    [
        ("int32", "1.0", "1.0"),
        ("int32", "2147483648", "2147483648"),
        ("uint8", "2147483648", "2147483648"),
        ("uint32", "-1", "-1"),
        ("uint64", "18446744073709551616", "1.84"),
        ("string", '[{"b64": 1}]', "{'b64': 1}"),
        ("string", '[{"b64": "a-_b"}]', "{'b64': 'a-_b'}"),
        ("string", '{"b64": "a"}', "{'b64': 'a'}"),
        ("string", '{"b64": "é"}', "{'b64': 'é'}"),
        ("float32", '["' + "a" * 3000 + '"]', "'aaaa"),
    ],
)
def test_values_that_do_not_fit(dtype, text, received):
    for document in (f'{{"inputs": {text}}}', f'{{"instances": [{text}]}}'):
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            _feeds(document, x=tf.as_dtype(dtype))
        assert error.value.message.startswith(f"Expected {dtype} for x, received {received}")
        assert len(error.value.message) < 100


@pytest.mark.parametrize("dtype", [tf.uint16, tf.half, tf.bfloat16])
def test_types_that_json_has_nothing_for(dtype):
    with pytest.raises(tf.errors.UnimplementedError, match=f"x is {dtype.name}"):
        _feeds('{"inputs": 1}', x=dtype)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"x is {dtype.name}"):
        _feeds('{"instances": [1]}', x=dtype)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"y is {dtype.name}"):
        json_codec.predictions({"y": np.zeros(1, dtype.as_numpy_dtype)}, True)


def test_more_lists_than_can_be_meant():
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 4000000 lists"):
        json_codec.parse(b'{"instances": [' + b"[]," * 4_000_000 + b"[]]}")


def _float_text(value):
    """One number by the rule, digit for digit."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    if type(value)(text) != value:
        text = f"{value:.{9 if type(value) is np.float32 else 17}g}"
    return text if "." in text or "e" in text else text + ".0"


def _answer(values):
    return json_codec.predictions({"y": values}, True).decode()


@given(st.lists(st.floats(width=32)), st.lists(st.floats()))
def test_texts_of_floats(singles, doubles):
    for values in (np.array(singles, np.float32), np.array(doubles)):
        texts = ", ".join(map(_float_text, values))
        assert _answer(values) == f'{{\n    "predictions": [{texts}]\n}}'


def test_texts_of_many_floats():
    values = np.random.default_rng(0).normal(size=20_000).astype("float32")
    values[::7] = np.round(values[::7], 1)
    values[5000:5010] = [0, -0.0, 1, 9e6, 3e-5, np.nan, np.inf, -np.inf, 0.1, 123456.7]
    assert f"[{', '.join(map(_float_text, values))}]" in _answer(values)
    assert "[0.0, -0.0, 1.0, 9e+06, 3e-05]" in _answer(values[5000:5005])


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.sampled_from(["float32", "int32", "uint8", "int64", "uint64", "bool", "S", "b"]),
    st.booleans(),
)
def test_tensors_come_back(shape, kind, rows):
    rng = np.random.default_rng(sum(shape))
    size, name, dtype = math.prod(shape), "y", tf.string
    values = np.empty(size, object)
    if kind == "b":
        values[:], name = [rng.bytes(3) for _ in range(size)], "y_bytes"
    elif kind == "S":
        values[:] = [b'a"\n'] * size
    else:
        values, dtype = (100 * rng.normal(size=size)).astype(kind), tf.as_dtype(kind)
    values = values.reshape(shape)
    answer = json.loads(json_codec.predictions({name: values}, rows))
    found = answer["predictions" if rows else "outputs"]
    back = json_codec.feeds({"inputs": found}, {"x": dtype})[1]["x"]
    assert back.tolist() == values.tolist()
    assert back.shape == tuple(shape[: shape.index(0) + 1] if 0 in shape else shape)


def test_bytes_that_are_not_utf_8_are_sent_as_they_are():
    assert b'"\xff"' in json_codec.predictions({"s": np.array([b"\xff"], object)}, True)
