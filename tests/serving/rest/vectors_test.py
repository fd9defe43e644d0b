"""TensorFlow Serving's contract, request by request: `serving_vectors.json`.

Over HTTP against the `serve` command, or against the server that TF_SERVING_URL names, which must
serve what `rest_models.py` writes.
"""

import gzip
import http.client
import json
import os
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
import rest_models
import standin

VECTORS = json.loads((Path(__file__).parents[1] / "serving_vectors.json").read_text())["vectors"]
HTTP = [vector for vector in VECTORS if vector["kind"] == "http"]
CODEC = [vector for vector in VECTORS if vector["kind"] != "http"]
DTYPES = {"string": "DT_STRING", "int32": "DT_INT32"}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    if given := os.environ.get("TF_SERVING_URL"):
        yield given
        return
    folder = rest_models.write_all(tmp_path_factory.mktemp("models"))
    flags = [f"--model_config_file={folder}/models.config"]
    flags += [f"--monitoring_config_file={folder}/monitoring.config"]
    with standin.running(*flags) as server:
        yield server.url


def _exchange(url, vector):
    body = vector["request_body"]
    body = None if body is None else body.encode()
    if vector.get("body_encoding") == "gzip":
        body = gzip.compress(body)
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=60)
    try:
        connection.request(vector["method"], vector["url"], body, vector.get("headers", {}))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def _has(document, dotted):
    for key in dotted.split("."):
        if key not in document:
            return False
        document = document[key]
    return True


@pytest.mark.parametrize("vector", HTTP, ids=[vector["id"] for vector in HTTP])
def test_over_http(url, vector):
    status, headers, text = _exchange(url, vector)
    assert status == vector["expected_status"], text
    mode, expected = vector["match"], vector["expected"]
    if mode in ("json_equal", "json_text_equal", "error_exact", "error_contains", "json_keys"):
        assert headers["Content-Type"] == "application/json"
    if mode == "json_equal":
        assert json.loads(text) == expected
    elif mode == "json_text_equal":
        assert "".join(text.split()) == "".join(expected.split())
    elif mode == "error_exact":
        assert json.loads(text) == {"error": expected}
    elif mode == "error_contains":
        assert expected in json.loads(text)["error"]
        if exact := vector.get("expected_exact"):
            assert json.loads(text)["error"] == exact
        assert json.loads(text)["error"].endswith(vector.get("expected_suffix", ""))
    elif mode == "json_keys":
        assert all(_has(json.loads(text), key) for key in expected)
    elif mode == "not_json":
        assert headers["Content-Type"].startswith("text/html")
    elif mode == "text_contains":
        assert headers["Content-Type"].startswith("text/plain")
        assert expected in text
    else:
        assert (mode, text) == ("empty_body", "")


@pytest.mark.parametrize("vector", CODEC, ids=[vector["id"] for vector in CODEC])
def test_of_the_codec(vector):
    from tensorflow.core.framework import types_pb2

    from r2n2_keras.serving.rest import answers, codec, json_text

    if vector["kind"] == "codec_request":
        inputs = {
            name: getattr(types_pb2, DTYPES[dtype]) for name, dtype in vector["signature"].items()
        }
        _, arrays = codec.feeds(json_text.parse(vector["payload"].encode()), inputs)
        assert arrays.keys() == vector["expected"].keys()
        for name, expected in vector["expected"].items():
            values = [v.encode() if isinstance(v, str) else v for v in expected["values"]]
            assert list(arrays[name].shape) == expected["shape"]
            assert arrays[name].reshape(-1).tolist() == values
        return
    arrays = {}
    for name, tensor in vector["payload"].items():
        if tensor["dtype"] == "string":
            values = np.array([value.encode() for value in tensor["values"]], object)
        else:
            values = np.array(tensor["values"], tensor["dtype"].replace("float", "float32"))
        arrays[name] = values.reshape(tensor["shape"])
    form = codec.ROW if vector["kind"] == "codec_response_row" else codec.COLUMN
    text = answers.predictions(arrays, form).decode()
    if "NaN" in vector["expected"]:
        assert "".join(text.split()) == "".join(vector["expected"].split())
    assert _same(json.loads(text), json.loads(vector["expected"]))


def _same(left, right):
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
