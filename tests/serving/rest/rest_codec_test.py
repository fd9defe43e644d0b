"""JSON to arrays and back, beside slow and plain ways to do the same."""

import base64
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2

from r2n2_keras.serving.rest import answers, codec, deep_json, dtypes, json_text, values
from r2n2_keras.serving.rest.status import StatusError

FLOAT, INT32, STRING = types_pb2.DT_FLOAT, types_pb2.DT_INT32, types_pb2.DT_STRING
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
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)
DTYPES = st.sampled_from(
    [getattr(types_pb2, f"DT_{name}") for name in (
        "FLOAT", "DOUBLE", "INT8", "UINT8", "INT16", "INT32", "INT64", "UINT32", "UINT64", "BOOL",
        "STRING", "BFLOAT16", "UINT16", "HALF",
    )]
)  # fmt: skip


def _said(function, *arguments):
    with pytest.raises(StatusError) as error:
        function(*arguments)
    return error.value


def _feed(text, **inputs):
    return codec.feeds(json_text.parse(text.encode()), inputs or {"x": FLOAT})[1]


@pytest.mark.parametrize(
    "text, message",
    [
        (b"", "The document is empty"),
        (b"  ", "The document is empty. at offset: 2"),
        (b"instances", "Invalid value. at offset: 0"),
        (b'{"a": 1', "Missing a comma or '}' after an object member. at offset: 7"),
        (b"[1e400]", "Number too big to be stored in double. at offset: 1"),
        (b"\xef\xbb\xbf[1,]", "Invalid value. at offset: 6"),
        (b"\xff[1]", "Invalid value. at offset: 0"),
    ],
)
def test_messages_of_the_parser(text, message):
    assert _said(json_text.parse, text).message == f"JSON Parse error: {message}"


@pytest.mark.parametrize(
    "text, expected",
    [
        (b"[1] x", [1]),
        (b"\xef\xbb\xbf{}{", {}),
        (b"[1]\x00", [1]),
        (b"[1] \xff", [1]),
        (b'["\xff"]', ["\udcff"]),
        (b"[NaN]", [math.nan]),
        (b"[Inf, -Infinity]", [math.inf, -math.inf]),
        (b"[18446744073709551616]", [2.0**64]),
        (b'{"a": 1, "b": 3, "a": 2}', {"a": 1, "b": 3}),
        (b"7", 7),
    ],
)
def test_what_is_taken(text, expected):
    found = json_text.parse(text)
    assert repr(found) == repr(expected)


@given(DOCUMENTS, st.sampled_from([None, 1]), st.booleans())
def test_both_parsers_read_the_same(document, indent, ascii_only):
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    assert repr(json_text.parse(text)) == repr(document)
    found = deep_json.parse(text)
    assert repr(found) == repr(document)


@given(st.binary(max_size=12) | st.text('[]{}",:0123456789.eE+-truefalsnN \\u', max_size=12))
def test_both_parsers_refuse_the_same(text):
    text = text.encode() if isinstance(text, str) else text
    try:
        text.decode()
    except UnicodeDecodeError:
        return
    found = []
    for parse in (json_text.parse, deep_json.parse):
        try:
            found.append(repr(parse(text)))
        except (StatusError, deep_json.ParseError):
            found.append("refused")
    assert found[0] == found[1] or b"\x00" in text or text.startswith(b"\xef\xbb\xbf")


@given(NESTED, DTYPES)
def test_an_array_is_made_exactly_where_nothing_is_wrong(value, dtype):
    shape = codec._shape(value)
    try:
        codec._tell(value, shape, dtype)
    except StatusError:
        assert codec._array(value, shape, dtype) is None
    else:
        assert codec._array(value, shape, dtype).shape == tuple(shape)


@given(st.lists(NESTED, min_size=1, max_size=4), DTYPES)
def test_rows_are_told_of_like_columns(instances, dtype):
    try:
        arrays = codec.feeds({"instances": instances}, {"x": dtype})[1]
    except StatusError as error:
        assert error.code == "INVALID_ARGUMENT"
        assert "without a reason" not in error.message
    else:
        assert arrays["x"].shape[0] == len(instances)


@given(
    st.lists(
        st.dictionaries(st.sampled_from("ab"), NESTED | st.integers(0, 3), max_size=2), min_size=1
    )
)
def test_rows_of_objects(instances):
    try:
        arrays = codec.feeds({"instances": instances}, {"a": INT32, "b": INT32})[1]
    except StatusError as error:
        assert "without a reason" not in error.message
    else:
        assert arrays["a"].shape[0] == arrays["b"].shape[0] == len(instances)


@pytest.mark.parametrize(
    "dtype, text, expected",
    [
        ("UINT8", "[300, -1]", [44, 255]),
        ("INT8", "[200]", [-56]),
        ("INT64", "[-9223372036854775808]", [-(2**63)]),
        ("UINT64", "[18446744073709551615]", [2**64 - 1]),
        ("UINT32", "[4294967295]", [2**32 - 1]),
        ("FLOAT", "[1e39, -1e39, 16777217, 1]", [math.inf, -math.inf, 2**24, 1]),
        ("DOUBLE", "[16777217, 1e39]", [16777217, 1e39]),
        ("BOOL", "[true, false]", [True, False]),
        ("STRING", '["é", {"b64": "/w=="}, {"b64": " / w "}]', ["é".encode(), b"\xff", b"\xff"]),
        ("FLOAT", "1.5", 1.5),
        ("BFLOAT16", "[]", []),
    ],
)
def test_numbers_that_fit(dtype, text, expected):
    array = _feed(f'{{"inputs": {text}}}', x=getattr(types_pb2, f"DT_{dtype}"))["x"]
    assert array.tolist() == expected


@pytest.mark.parametrize(
    "dtype, text, message",
    [
        ("INT32", "1.0", "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        ("INT32", "2147483648", "Value: 2147483648 Type: Number is not of expected type: int32"),
        ("UINT8", "2147483648", "is not of expected type: uint8"),
        ("INT64", "9223372036854775808", "is not of expected type: int64"),
        ("UINT32", "-1", "JSON Value: -1 Type: Number is not of expected type: uint32"),
        ("UINT64", "-1", "is not of expected type: uint64"),
        ("UINT64", "18446744073709551616", "Value: 1.8446744073709552e+19 Type: Number is not"),
        ("INT32", "true", "JSON Value: true Type: True is not of expected type: int32"),
        ("BOOL", "1", "JSON Value: 1 Type: Number is not of expected type: bool"),
        ("BOOL", "null", "JSON Value: null Type: Null is not of expected type: bool"),
        ("STRING", "1", "JSON Value: 1 Type: Number is not of expected type: string"),
        ("DOUBLE", '"a"', 'JSON Value: "a" Type: String is not of expected type: double'),
        ("STRING", '[{"b64": 1}]', 'JSON Value: {"b64":1} not formatted correctly for base64 data'),
        ("STRING", '[{"b64": "a-_b"}]', "Unable to base64 decode"),
        ("STRING", '{"b64": "a"}', "Unable to base64 decode"),
        ("STRING", '{"b64": "é"}', "Unable to base64 decode"),
        ("UINT16", "1", "Conversion of JSON Value: 1 to type: uint16"),
        ("HALF", "[0.5]", "Conversion of JSON Value: 0.5 to type: half"),
        ("FLOAT", "[[1], 2]", "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected "
         "at level: 2"),
        ("FLOAT", "[1, [2]]", "Encountered list at unexpected level: 1 expected < 1"),
        ("FLOAT", "[[], [1]]", "unexpected size: 1 at level: 1 expected size: 0"),
        ("FLOAT", '["' + "a" * 3000 + '"]', 'JSON Value: "' + "a" * 200),
    ],
)  # fmt: skip
def test_numbers_that_do_not_fit(dtype, text, message):
    kind = getattr(types_pb2, f"DT_{dtype}")
    error = _said(lambda: _feed(f'{{"inputs": {text}}}', x=kind))
    assert message in error.message
    assert len(error.message) < 400
    unimplemented = message.startswith("Conversion")
    assert error.code == ("UNIMPLEMENTED" if unimplemented else "INVALID_ARGUMENT")
    row = _said(lambda: _feed(f'{{"instances": [{text}]}}', x=kind))
    assert row.code == "INVALID_ARGUMENT"
    prefix = f"Failed to process element: 0 of 'instances' list. Error: {error.code}: "
    assert row.message == prefix + error.message


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"instances": [{"a": 1, "b": 2, "c": 3}]}', "Failed to process element: 0 key: c of "
         "'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named input: c"),
        ('{"instances": [{"b": 2}]}', "Failed to process element: 0 of 'instances' list. JSON "
         'object: {"b":2} keys must be equal to: a,b'),
        ('{"instances": [{"a": 1, "b": 2}, 3]}', "Expecting object but got list at item 1 of input "
         "list"),
        ('{"instances": [{"a": 1, "b": 2}, {"a": [1], "b": 2}]}', "Failed to process element: 1 "
         "key: a of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [] but got: [1]"),
        ('{"instances": [{"a": 1, "b": "x"}]}', "Failed to process element: 0 key: b of "
         "'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"x\" Type: String is not of "
         "expected type: int32"),
        ('{"inputs": {"a": 1}}', "Missing named input: b in 'inputs' object."),
        ('{"inputs": {"b64": "aa"}}', "inputs is a plain value/list, but expecting an object as "
         "multiple input tensors required as per tensorinfo_map"),
        ('{"instances": {"a": 1}}', 'JSON Value: {"instances":{"a":1}} Expecting \'instances\' to '
         "be an list/array"),
        ('{"inputs": 1, "instances": [NaN, 1.5, 1e30]}', 'JSON Value: {"inputs":1,"instances":'
         "[NaN,1.5,1e30]} Not formatted correctly expecting only one of 'inputs' or 'instances' "
         "keys to exist "),
    ],
)  # fmt: skip
def test_messages_of_several_inputs(text, message):
    assert _said(lambda: _feed(text, a=INT32, b=INT32)).message == message


def test_messages_of_a_plain_list():
    for text, message in (
        ("[1, {}]", "Expecting value/list but got object at item 1 of input list"),
        ('[{"x": 1}, {"b64": ""}]', "Expecting object but got list at item 1 of input list"),
        ('[{"y": 1}]', "JSON object: does not have named input: y"),
        ("[[1, 2], [[1, 2]]]", "Expecting shape [2] but got: [1,2]"),
        ("[[1], 1]", "Expecting shape [1] but got: []"),
        ("[[1, 2], 1]", "Expecting tensor size: 2 but got: 1"),
    ):
        assert message in _said(lambda text=text: _feed(f'{{"instances": {text}}}')).message
    assert _feed('{"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}')["x"].tolist() == [[1, 2], [3, 4]]


def test_signature_names():
    assert codec.signature_name({"signature_name": "a"}) == "a"
    assert _said(codec.signature_name, {"signature_name": 1}).message == (
        "JSON Value: {\"signature_name\":1} not formatted correctly. 'signature_name' key must be "
        "a string value."
    )


def test_more_axes_than_numpy_has():
    deep = "[" * 70 + "1" + "]" * 70
    assert "axes" in _said(lambda: _feed(f'{{"inputs": {deep}}}')).message
    assert "axes" in _said(lambda: _feed(f'{{"instances": {deep}}}')).message


def _plain_float_text(value):
    """One number by the rule, digit for digit."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    if type(value)(text) != value:
        text = f"{value:.{9 if type(value) is np.float32 else 17}g}"
    return text if "." in text or "e" in text else text + ".0"


@given(st.lists(st.floats(width=32)), st.lists(st.floats()))
def test_float_texts(singles, doubles):
    for array in (np.array(singles, np.float32), np.array(doubles)):
        assert values.float_texts(array) == [_plain_float_text(value) for value in array]


def test_float_texts_of_many():
    array = np.random.default_rng(0).normal(size=20_000).astype("float32")
    array[::7] = np.round(array[::7], 1)
    array[5000:5010] = [0, -0.0, 1, 9e6, 3e-5, np.nan, np.inf, -np.inf, 0.1, 123456.7]
    assert values.float_texts(array) == [_plain_float_text(value) for value in array]
    assert values.float_texts(array[5000:5005]) == ["0.0", "-0.0", "1.0", "9e+06", "3e-05"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_in_errors(value):
    text = values.echo([value])[1:-1]
    assert float(text) == value
    assert type(json.loads(text)) is float


@given(DOCUMENTS)
def test_values_in_errors(document):
    text = values.echo(document)
    if type(document) is not float and not text.endswith("..."):
        assert json.loads(text) == json.loads(json.dumps(document))
    assert len(text.encode("utf-8", "surrogateescape")) <= values.ECHO_BYTES + 3 or (
        not text.endswith("...")
    )


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.sampled_from(["float32", "float64", "int32", "uint8", "int64", "uint64", "bool", "S", "b"]),
    st.sampled_from([codec.ROW, codec.COLUMN]),
)
def test_arrays_come_back(shape, kind, form):
    rng = np.random.default_rng(sum(shape))
    name = "y_bytes" if kind == "b" else "y"
    if kind in ("S", "b"):
        flat = [rng.bytes(3) if kind == "b" else b'a"\n' for _ in range(math.prod(shape))]
        array = np.array(flat, object).reshape(shape)
        dtype = STRING
    else:
        array = (100 * rng.normal(size=shape)).astype(kind)
        dtype = tf.as_dtype(array.dtype).as_datatype_enum
    answer = json_text.parse(answers.predictions({name: array}, form))
    found = answer["predictions" if form == codec.ROW else "outputs"]
    back = codec.feeds({"inputs": found}, {"x": dtype})[1]["x"]
    if kind == "float64":  # RapidJSON reads 17 digits to within a unit in the last place or so
        np.testing.assert_allclose(back.reshape(-1), array.reshape(-1), rtol=1e-15)
    else:
        assert back.reshape(-1).tolist() == array.reshape(-1).tolist()
    if 0 not in shape:
        assert back.shape == array.shape


def test_answers_of_several_outputs():
    outputs = {
        "a": np.array([[1.5], [2.0]], np.float32),
        "b_bytes": np.array([b"x", b"\xff"], object),
    }
    assert json.loads(answers.predictions(outputs, codec.ROW)) == {
        "predictions": [
            {"a": [1.5], "b_bytes": {"b64": "eA=="}},
            {"a": [2.0], "b_bytes": {"b64": "/w=="}},
        ]
    }
    raw = answers.predictions({"s": np.array([b"\xff"], object)}, codec.ROW)
    assert b'"\xff"' in raw
    half = {"h": np.zeros((1,), np.float16)}
    assert _said(answers.predictions, half, codec.ROW).message == (
        "Failed to write JSON value for tensor type: half"
    )


def test_echoes_of_what_is_deep_or_long():
    value = 1
    for _ in range(300_000):
        value = [value]
    assert values.echo(value) == "[" * values.ECHO_BYTES + "..."
    assert len(values.echo({"a" * 10**6: "é" * 10**6})) < 300
    assert dtypes.name(types_pb2.DT_DOUBLE) == "double"
