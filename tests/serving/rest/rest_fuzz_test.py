"""Whatever is asked, the answer is JSON and never says that the server is to blame."""

import json
import time

import pytest
import rest_models
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from r2n2_keras.serving.rest import api, monitoring, routes, versions
from r2n2_keras.serving.rest.model_config import ModelConfig
from r2n2_keras.serving.rest.status import StatusError

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
REQUESTS = st.dictionaries(
    st.sampled_from(["instances", "inputs", "examples", "context", "zzz"]), VALUES, max_size=2
)
SIGNATURES = st.sampled_from(
    ["", "classify_x_to_y", "regress_x_to_y", "none", "__saved_model_init_op"]
)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    rest_models.half_plus(folder / "half" / "1")
    rest_models.multi(folder / "multi" / "1")
    rest_models.strings(folder / "s" / "1")
    rest_models.identity(folder / "bf16" / "1", tf.bfloat16)
    rest_models.identity(folder / "uint8" / "1", tf.uint8)
    tf.get_logger().setLevel("ERROR")
    configs = [ModelConfig(path.name, str(path)) for path in sorted(folder.iterdir())]
    said, monitor = [], monitoring.Monitor()
    models = versions.Models(
        configs, timeout_in_ms=10_000, poll_seconds=60, monitor=monitor, say=said.append
    )
    models.start()
    said.clear()
    yield api.Api(models, monitor, said.append), said
    models.stop()


def _check(served, verb, model, body, gzipped=False):
    asked, said = served
    route = routes.Route(verb, model)
    status, content = asked.post(route, body, gzipped, time.monotonic() + 60)
    document = json.loads(content)
    assert said == []
    assert status in (200, 400, 404, 501), document
    assert (status == 501) <= (verb == "predict" and model == "bf16")
    assert (status == 200) == ("error" not in document)


@settings(max_examples=300)
@given(
    st.sampled_from(["half", "multi", "s", "bf16", "uint8", "none"]),
    st.sampled_from(["predict", "predict", "classify", "regress"]),
    SIGNATURES,
    REQUESTS,
)
def test_any_document(served, model, verb, signature, request):
    request = {**request, **({"signature_name": signature} if signature else {})}
    _check(served, verb, model, json.dumps(request).encode())


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes(served, body, gzipped):
    _check(served, "predict", "half", body, gzipped)


@given(st.integers(0, 60), st.integers(0, 255))
def test_one_wrong_byte(served, at, byte):
    body = bytearray(b'{"instances": [{"int_tensor": 1, "str_tensor": "a\\u00e9"}]}')
    body[at % len(body)] = byte
    _check(served, "predict", "multi", bytes(body))


@given(st.text(max_size=30))
def test_any_path(text):
    for method in ("GET", "POST"):
        for path in (f"/v1/{text}", f"/v1/models/{text}", f"/v1/models/{text}:predict"):
            try:
                routes.parse(method, path)
            except StatusError as error:
                assert error.code == "INVALID_ARGUMENT"
