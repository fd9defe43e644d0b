"""The server on a socket: what it answers besides predictions, and what it puts up with."""

import base64
import gzip
import json
import re
import threading
import time
import zlib

import pytest
import rest_models
import rest_server
import tensorflow as tf
from rest_server import ask, connect, error, predict, read_all

from r2n2_keras.serving.rest import server
from r2n2_keras.serving.rest.model_config import ModelConfig

GOOD = b'{"instances": [1.0]}'
POST = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    rest_models.half_plus(folder / "m" / "7")
    rest_models.slow(folder / "slow" / "1")
    rest_models.strings(folder / "s" / "1")
    rest_models.table(folder / "table" / "1")
    rest_models.identity(folder / "any" / "1", tf.string)
    return folder


def _configs(folder):
    return [ModelConfig(path.name, str(path)) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def port(folder):
    configs = [*_configs(folder), ModelConfig("a model", str(folder / "m"))]
    with rest_server.running(configs, metrics_path="/metrics", max_requests=64) as serving:
        yield serving.port
        assert serving.said == []


@pytest.mark.parametrize(
    "method, path, body, status, message",
    [
        ("PUT", "/v1/models/m:predict", GOOD, 400, "Malformed request: PUT /v1/models/m:predict"),
        ("DELETE", "/v1/x", None, 400, "Malformed request: DELETE /v1/x"),
        ("PATCH", "/V1/models/m", None, 400, "Malformed request: PATCH /V1/models/m"),
        ("POST", "/v1/models/m:PREDICT", GOOD, 400, "Malformed request: POST /v1/models/m:PREDICT"),
        ("POST", "/v1/models/m", GOOD, 400, "Malformed request: POST /v1/models/m"),
        ("POST", "/v1/models/m:predict/", GOOD, 400, "Malformed request"),
        ("GET", "/v1/models/m?a=1", None, 404, "Could not find any versions of model m?a=1"),
        ("GET", "/v1/models/m/versions/8", None, 404, "Could not find version 8 of model m"),
        ("GET", "/v1/models/", None, 400, "Malformed request: GET /v1/models/"),
        ("GET", "/v1/models/none/metadata", None, 404, "not found for request: Latest(none)"),
        ("GET", "/v1/models/m/versions/3/metadata", None, 404, "Specific(m, 3)"),
        ("GET", "/v1/models/m/labels/L/metadata", None, 400, "Unrecognized servable version label"),
        ("POST", "/v1/models/m/labels/a%20b:predict", GOOD, 400, "version label: a b"),
        ("POST", "/v1/models/no%20one:predict", GOOD, 404, "request: Latest(no one)"),
        (
            "POST",
            f"/v1/models/m/versions/{2**64}:predict",
            GOOD,
            400,
            f"Failed to convert version: {2**64} to numeric.",
        ),
    ],
)
def test_what_is_refused(port, method, path, body, status, message):
    found, headers, content = ask(port, method, path, body)
    assert (found, headers["Content-Type"]) == (status, "application/json")
    assert message in json.loads(content)["error"]
    assert (
        content == b'{\n    "error": ' + json.dumps(json.loads(content)["error"]).encode() + b"\n}"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/m:predict",
        "/V1/Models/m:predict",
        "/v1/models/%6d:predict",
        "/v1/models/a%20model:predict",
        "/v1/models/m/versions/007:predict",
    ],
)
def test_names_of_a_model(port, path):
    status, _, content = ask(port, "POST", path, GOOD, {"Content-Type": "text/nonsense"})
    assert (status, json.loads(content)) == (200, {"predictions": [2.5]})


def test_layout_of_an_answer(port):
    _, _, content = ask(port, "POST", "/v1/models/m:predict", b'{"instances": [1.0, 2]}')
    assert content == b'{\n    "predictions": [2.5, 3.0\n    ]\n}'


def test_metadata(port):
    status, _, content = ask(port, "GET", "/v1/models/m/versions/7/metadata")
    answer = json.loads(content)
    assert status == 200
    assert answer["model_spec"] == {"name": "m", "signature_name": "", "version": "7"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    initial = signatures.pop("__saved_model_init_op")
    assert initial["method_name"] == ""
    assert initial["outputs"]["__saved_model_init_op"]["dtype"] == "DT_INVALID"
    default = signatures["serving_default"]
    assert default["method_name"] == "tensorflow/serving/predict"
    assert default["defaults"] == {}
    assert default["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert default["inputs"]["x"]["tensor_shape"]["dim"] == [
        {"name": "", "size": "-1"},
        {"name": "", "size": "1"},
    ]
    assert ask(port, "GET", "/v1/models/m/Metadata")[2] == ask(port, "GET", "/v1/models/m")[2]


def test_a_signature_that_takes_nothing(port):
    body = {"signature_name": "__saved_model_init_op", "instances": [1]}
    expected = "Failed to get input map for signature: __saved_model_init_op"
    assert error(port, body) == (400, expected)


def test_tables_are_initialised(port):
    assert predict(port, {"instances": ["b", "z"]}, "table") == (200, {"predictions": [2, -1]})


def test_strings_and_bytes(port):
    content = bytes(range(256))
    body = {"instances": [{"b64": base64.b64encode(content).decode()}, "é"]}
    status, answer = predict(port, body, "s")
    assert status == 200
    decoded = [base64.b64decode(one["b64"]) for one in answer["predictions"]]
    assert decoded == [content, "é".encode()]
    raw = b'{"instances": ["\xff"], "x": 1} \xfe trailing'
    assert predict(port, raw, "s") == (200, {"predictions": [{"b64": "/w=="}]})


def test_strings_of_any_shape(port):
    for value in ("a", ["a", "b"], [], [["é"]], [[], []], "😀"):
        assert predict(port, {"inputs": value}, "any") == (200, {"outputs": value})
    assert error(port, {"inputs": [["a"], "b"]}, "any")[0] == 400


def test_classify_and_regress(port):
    def example(method, body):
        status, _, content = ask(port, "POST", f"/v1/models/m:{method}", json.dumps(body).encode())
        return status, json.loads(content)

    body = {"signature_name": "regress_x_to_y2", "examples": [{"x": [2.0]}, {"x": 4.0}]}
    assert example("regress", body) == (200, {"results": [4.0, 5.0]})
    body = {"signature_name": "regress_x2_to_y3", "context": {"x2": 2.0}, "examples": [{}]}
    assert example("regress", body) == (200, {"results": [4.0]})
    body = {"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}, {"x": 20.0}]}
    assert example("classify", body) == (200, {"results": [[["", 3.0]], [["", 12.0]]]})
    for broken, message in (
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": {}}, "Expecting 'examples' value to be an list/array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [{"x": [1, "a"]}]}, "Unexpected element type in feature: x"),
        ({"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
        ({"examples": [{"x": 2**63}]}, "has uint64 element. Only int64 is supported."),
        ({"examples": [{"x": {"b64": "?"}}]}, "Unable to base64 decode"),
        ({"signature_name": "no", "examples": [{}]}, "No signature was found with the name: no"),
        ({"examples": [{}]}, "No classification inputs found in SignatureDef"),
        ({"signature_name": "classify_x_to_y", "examples": [{"x": 2}]}, "Data types don't match"),
    ):
        status, answer = example("classify", broken)
        assert status == 400
        assert message in answer["error"]


def test_preflight_without_cors(port):
    headers = {"Origin": "https://example.org"}
    status, received, content = ask(port, "OPTIONS", "/v1/models/m:predict", None, headers)
    assert (status, content) == (200, b"")
    assert "Access-Control-Allow-Origin" not in received


def test_cors(folder):
    with rest_server.running(folder / "m", cors=True) as serving:
        origin = {"Origin": "http://example.org"}
        for method, body, status in (
            ("OPTIONS", None, 200),
            ("POST", GOOD, 200),
            ("POST", b"", 400),
        ):
            found, headers, _ = ask(serving.port, method, "/v1/models/m:predict", body, origin)
            assert (found, headers["Access-Control-Allow-Origin"]) == (status, "*")
        assert ask(serving.port, "OPTIONS", "/v1/x", None, {"Origin": "file://"})[0] == 400
        assert "Access-Control-Allow-Origin" not in ask(serving.port, "GET", "/elsewhere")[1]


def test_prometheus(port):
    def value(line):
        _, headers, content = ask(port, "GET", "/metrics")
        assert headers["Content-Type"].startswith("text/plain")
        found = re.search(rf"^{re.escape(line)} (\S+)$", content.decode(), re.MULTILINE)
        return float(found[1]) if found else 0

    counts = [
        ':tensorflow:serving:request_count{model_name="m",status="OK"}',
        ':tensorflow:serving:request_count{model_name="m",status="INVALID_ARGUMENT"}',
        ':tensorflow:serving:request_latency_count{API="predict",entrypoint="REST",model_name="m"}',
        ':tensorflow:serving:runtime_latency_count{API="Predict",model_name="m",runtime="TF1"}',
    ]
    before = [value(line) for line in counts]
    predict(port, GOOD)
    predict(port, b"{")
    predict(port, GOOD, "unheard-of")
    assert [value(line) for line in counts] == [
        before[0] + 1,
        before[1] + 1,
        before[2] + 2,
        before[3] + 1,
    ]
    _, _, content = ask(port, "GET", "/metrics")
    assert b"# TYPE :tensorflow:serving:request_count counter\n" in content
    assert b"# TYPE :tensorflow:serving:request_latency histogram\n" in content
    assert b'le="708235"' in content
    assert b"unheard-of" not in content
    assert ask(port, "GET", "/metrics?a=1")[0] == 404


def test_too_large_a_body(port):
    for headers in ({}, {"Content-Encoding": "gzip"}):
        status, received, content = ask(
            port, "POST", "/v1/models/m:predict", b" " * 2**20 + b"1", headers
        )
        assert (status, received["Connection"]) == (400, "close")
        assert "exceeds 1048576 bytes" in json.loads(content)["error"]
    # One that says that it is larger still is refused before it is sent.
    with connect(port) as connection:
        connection.sendall(POST + b"Content-Length: 99999999999\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    with connect(port) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(17):
            connection.sendall(b"10000\r\n" + b" " * 2**16 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert predict(port, GOOD)[0] == 200


def test_expectation_of_going_on(port):
    with connect(port) as connection:
        head = POST + b"Expect: 100-continue\r\nContent-Length: 20\r\n\r\n"
        connection.sendall(head)
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(GOOD)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


def test_gzip_that_is_none_cut_off_or_a_bomb(port):
    def send(body):
        headers = {"Content-Encoding": "GZIP"}
        status, _, content = ask(port, "POST", "/v1/models/m:predict", body, headers)
        return status, json.loads(content)

    assert send(gzip.compress(GOOD)) == (200, {"predictions": [2.5]})
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(squeeze.compress(b" " * 2**20) for _ in range(101)) + squeeze.flush()
    for body, message in (
        (GOOD, "Failed to uncompress"),
        (gzip.compress(GOOD)[:-9], "cut off"),
        (bomb, "exceeds 104857600 bytes uncompressed"),
        (b"", "Failed to uncompress"),
    ):
        status, answer = send(body)
        assert status == 400
        assert message in answer["error"]


def test_deep_nesting(port):
    deep = 500_000
    body = b'{"instances": [1.0], "x": ' + b"[" * deep + b"]" * deep + b"}"
    assert predict(port, body) == (200, {"predictions": [2.5]})
    status, message = error(port, b'{"instances": ' + b"[" * deep + b"]" * deep + b"}")
    assert status == 400
    assert len(message) < 20_000
    status, message = error(port, b"[" * 2000 + b"]" * 2000)
    assert (status, message[:14]) == (400, "JSON Value: [[")
    assert len(message) < 400
    assert error(port, b"[" * 2000)[0] == 400
    body = b'{"inputs": ' + b'{"x":' * 2000 + b"1" + b"}" * 2000 + b"}"
    assert "Type: Object is not of expected type: float" in error(port, body)[1]


def test_more_lists_than_can_be_meant(port):
    # Packed: five million lists in a few kilobytes.
    headers = {"Content-Encoding": "gzip"}
    body = gzip.compress(b'{"instances": [' + b"[]," * 5_000_000 + b"[]]}")
    assert ask(port, "POST", "/v1/models/m:predict", body, headers)[0] == 400


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        POST + b"Content-Length: x\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/models/m HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /v1/models/\xff\xfe HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    ],
)
def test_garbage(port, sent):
    with connect(port) as connection:
        connection.sendall(sent)
        received = read_all(connection)
    assert re.match(rb"HTTP/1.[01] 4\d\d ", received) or received == b""
    assert b"Traceback" not in received
    assert predict(port, GOOD)[0] == 200


def test_clients_that_go_away(port):
    head = POST + b"Content-Length: 20\r\n\r\n"
    for sent in (b"", b"PO", head, head + GOOD[:5], head + GOOD):
        with connect(port) as connection:
            connection.sendall(sent)
    assert predict(port, GOOD)[0] == 200


def test_pipelining(port):
    request = POST + b"Content-Length: 20\r\n\r\n" + GOOD
    last = b"GET /v1/models/m HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    with connect(port) as connection:
        connection.sendall(request * 20 + last)
        received = read_all(connection)
    assert received.count(b"HTTP/1.1 200 OK") == 21
    assert received.count(b"2.5") == 20
    assert received.rstrip().endswith(b"}")


def test_slow_clients_are_left(folder):
    head = POST + b"Content-Length: 20\r\n\r\n"
    with rest_server.running(folder / "m", timeout_in_ms=400) as serving:
        connections = [connect(serving.port) for _ in range(40)]
        for number, connection in enumerate(connections):
            connection.sendall((b"", b"POST /v1/mo", head, head + GOOD[:-1])[number % 4])
        assert predict(serving.port, GOOD)[0] == 200
        started = time.monotonic()
        received = [read_all(connection) for connection in connections]
        for connection in connections:
            connection.close()
        assert set(received) == {b""}
        assert time.monotonic() - started < 10
        assert predict(serving.port, GOOD)[0] == 200


def test_too_many_and_too_late(folder):
    long = json.dumps({"instances": [20_000_000]}).encode()
    statuses = []
    flags = {"max_requests": 4, "threads": 1, "timeout_in_ms": 1500}
    with rest_server.running(_configs(folder), **flags) as serving:

        def send():
            statuses.append(predict(serving.port, long, "slow"))

        clients = [threading.Thread(target=send) for _ in range(4)]
        for client in clients:
            client.start()
        rest_server.until(lambda: serving.rest._places_taken == 4)
        status, message = error(serving.port, GOOD)
        assert status == 429
        assert message.startswith("RESOURCE_EXHAUSTED")
        # What needs no thread is answered all the same.
        assert ask(serving.port, "GET", "/v1/models/m")[0] == 200
        for client in clients:
            client.join()
        assert [status for status, _ in statuses] == [504] * 4
        rest_server.until(lambda: serving.rest._places_taken == 0)
        assert predict(serving.port, GOOD)[0] == 200


def test_bodies_that_take_too_much_memory_together(folder, monkeypatch):
    monkeypatch.setattr(server, "_HELD", 0)  # then four of the largest
    head = POST + b"Content-Length: %d\r\n\r\n" % 2**20
    with rest_server.running(folder / "m") as serving:
        connections = [connect(serving.port) for _ in range(5)]
        for connection in connections[:4]:
            connection.sendall(head + bytes(900_000))
        rest_server.until(lambda: serving.rest._held == 4 * 900_000)
        connections[4].sendall(head + bytes(900_000))
        assert connections[4].recv(100).startswith(b"HTTP/1.1 429 ")
        for connection in connections:
            connection.close()
        rest_server.until(lambda: serving.rest._held == 0)
        assert predict(serving.port, GOOD)[0] == 200


def test_a_client_that_does_not_read(folder):
    body = json.dumps({"instances": [{"b64": "A" * 900_000}]}).encode()
    request = (
        b"POST /v1/models/s:predict HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )
    with rest_server.running(_configs(folder), timeout_in_ms=500) as serving:
        with connect(serving.port) as connection:
            connection.settimeout(5)
            with pytest.raises(OSError):  # the server reads no more, and hangs up
                for _ in range(100):
                    connection.sendall(request)
            assert predict(serving.port, GOOD)[0] == 200
