"""Whatever is asked, the answer is JSON and never says that the server is to blame."""

import json

import pytest
import standin_models
import standin_server
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from r2n2_keras.standin import rest

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**25), 10**25),
        st.floats(),
        st.text(max_size=5),
        st.just({"b64": "AA=="}),
        st.just({"b64": "!"}),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "s", "int_tensor", "str_tensor", "b64", ""]), inner)
    ),
    max_leaves=10,
)
REQUESTS = st.dictionaries(st.sampled_from(["instances", "inputs", "zzz"]), VALUES, max_size=2)
MODELS = st.sampled_from(["half", "multi", "s", "bf16", "uint8", "none"])
SIGNATURES = st.sampled_from(["", "none", "__saved_model_init_op"])


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    standin_models.half_plus(folder / "half" / "1")
    standin_models.multi(folder / "multi" / "1")
    standin_models.strings(folder / "s" / "1")
    standin_models.identity(folder / "bf16" / "1", tf.bfloat16)
    standin_models.identity(folder / "uint8" / "1", tf.uint8)
    paths = {path.name: path for path in folder.iterdir()}
    with standin_server.running(standin_models.write_config(folder, paths)) as server:
        yield server


def _check(served, model, body, gzipped=False):
    api = rest.Api(served.models, served.server._monitor, served.said.append)
    status, content = api.predict(rest.Route("predict", model), body, gzipped)
    document = json.loads(content)
    assert served.said == []
    assert status in (200, 400, 404, 501), document
    assert status != 501 or model == "bf16"
    assert (status == 200) == ("error" not in document)


@settings(max_examples=300)
@given(MODELS, SIGNATURES, REQUESTS)
def test_any_document(served, model, signature, request):
    request = {**request, **({"signature_name": signature} if signature else {})}
    _check(served, model, json.dumps(request).encode())


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes(served, body, gzipped):
    _check(served, "half", body, gzipped)


@given(st.integers(0, 60), st.integers(0, 255))
def test_one_wrong_byte(served, at, byte):
    body = bytearray(b'{"instances": [{"int_tensor": 1, "str_tensor": "a\\u00e9"}]}')
    body[at % len(body)] = byte
    _check(served, "multi", bytes(body))


@given(st.text(max_size=30), st.sampled_from(["GET", "POST"]))
def test_any_path(text, method):
    for path in (f"/v1/{text}", f"/v1/models/{text}", f"/v1/models/{text}:predict"):
        try:
            route = rest.parse_route(method, path)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            continue
        assert route.verb == "predict" if method == "POST" else route.verb in ("status", "metadata")
        assert route.model
