"""TensorFlow Serving's contract, request by request: `vectors.json`.

Over HTTP against the `serve` command, or against the server that TF_SERVING_URL names, which must
serve what `standin_models.py` writes.
"""

import functools
import gzip
import json
import os
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
import standin_models
import standin_server
import tensorflow as tf

from r2n2_keras.standin import json_codec

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())["vectors"]
HTTP = [vector for vector in VECTORS if vector["kind"] == "http"]
CODEC = [vector for vector in VECTORS if vector["kind"] != "http"]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    if given := os.environ.get("TF_SERVING_URL"):
        yield given
        return
    folder = standin_models.write_all(tmp_path_factory.mktemp("models"))
    flags = [f"--model_config_file={folder}/models.config"]
    flags += [f"--monitoring_config_file={folder}/monitoring.config"]
    with standin_server.command(*flags) as server:
        yield server.url


@pytest.mark.parametrize("vector", HTTP, ids=[vector["id"] for vector in HTTP])
def test_over_http(url, vector):
    body = vector["request_body"]
    if vector.get("body_encoding") == "gzip":
        body = gzip.compress(body.encode())
    address = urllib.parse.urlsplit(url)
    status, headers, content = standin_server.ask(
        address.port, vector["method"], vector["url"], body, vector.get("headers"), address.hostname
    )
    content_type, text = headers["Content-Type"], content.decode()
    assert status == vector["expected_status"], text
    mode, expected = vector["match"], vector.get("expected")
    if mode == "not_json":
        assert content_type.startswith("text/html")
    elif mode == "text_contains":
        assert content_type.startswith("text/plain")
        assert expected in text
    elif mode == "empty_body":
        assert text == ""
    elif mode == "json_text_equal":
        assert "".join(text.split()) == "".join(expected.split())
    else:
        answer = json.loads(text)
        assert content_type == "application/json"
        if mode == "json_keys":
            for dotted in expected:
                functools.reduce(lambda part, key: part[key], dotted.split("."), answer)
        elif mode == "json_equal":
            assert answer == expected
        else:
            assert mode in ("error", "error_exact")
            assert answer == {"error": answer["error"] if mode == "error" else expected}
            assert answer["error"]


@pytest.mark.parametrize("vector", CODEC, ids=[vector["id"] for vector in CODEC])
def test_of_the_codec(vector):
    if vector["kind"] == "codec_request":
        inputs = {name: tf.as_dtype(dtype) for name, dtype in vector["signature"].items()}
        _, tensors = json_codec.feeds(json_codec.parse(vector["payload"].encode()), inputs)
        for name, expected in vector["expected"].items():
            np.testing.assert_array_equal(tensors.pop(name), _array(expected), strict=True)
        assert not tensors
        return
    tensors = {name: _array(one) for name, one in vector["payload"].items()}
    text = json_codec.predictions(tensors, vector["kind"] == "codec_response_row").decode()
    # As text, since NaN is not NaN.
    found, expected = (
        json.dumps(json.loads(one), sort_keys=True) for one in (text, vector["expected"])
    )
    assert found == expected


def _array(tensor):
    values, dtype = tensor["values"], tf.as_dtype(tensor["dtype"]).as_numpy_dtype
    if tensor["dtype"] == "string":
        values = [value.encode() for value in values]
    return np.array(values, dtype).reshape(tensor["shape"])
