"""The server on a socket: what it answers besides predictions, and what it puts up with."""

import gzip
import json
import re
import threading
import time
import zlib

import pytest
import standin_models
import standin_server
import tensorflow as tf
from standin_server import ask, connect, predict, read_all, until

from r2n2_keras.standin import http_server

GOOD = b'{"instances": [1.0]}'
PATH = "/v1/models/m:predict"
POST = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    standin_models.half_plus(folder / "m" / "7")
    standin_models.slow(folder / "slow" / "1")
    standin_models.strings(folder / "s" / "1")
    standin_models.table(folder / "table" / "1")
    standin_models.identity(folder / "any" / "1", tf.string)
    paths = {path.name: path for path in folder.iterdir()}
    standin_models.write_config(folder, {**paths, "a model": folder / "m"})
    return folder


@pytest.fixture(scope="module")
def port(folder):
    with standin_server.running(folder / "models.config", max_requests=64) as serving:
        yield serving.port
        assert serving.said == []


@pytest.mark.parametrize(
    "method, path, status, message",
    [
        ("PUT", PATH, 400, f"Malformed request: PUT {PATH}"),
        ("PATCH", "/V1/models/m", 400, "Malformed request: PATCH /V1/models/m"),
        ("POST", "/v1/models/m:PREDICT", 400, "Malformed request: POST /v1/models/m:PREDICT"),
        ("POST", f"{PATH}/", 400, f"Malformed request: POST {PATH}/"),
        ("POST", "/v1/models/m:classify", 501, "This stand-in knows no classify; ask for predict."),
        ("GET", "/v1/models/m?a=1", 404, "Could not find any versions of model m?a=1"),
        ("GET", "/v1/models/m/versions/8", 404, "Could not find version 8 of model m"),
        ("GET", "/v1/models/", 400, "Malformed request: GET /v1/models/"),
        ("GET", "/v1/models/no/metadata", 404, "Servable not found for request: Latest(no)"),
        ("GET", "/v1/models/m/labels/L/metadata", 400, "Unrecognized servable version label: L"),
        ("POST", "/v1/models/m/labels/a%20b:predict", 400,
         "Unrecognized servable version label: a b"),
        ("POST", "/v1/models/no%20one:predict", 404,
         "Servable not found for request: Latest(no one)"),
        ("POST", f"/v1/models/m/versions/{2**63}:predict", 400,
         f"Expected a version of at most {2**63 - 1}, received {2**63}."),
    ],
)  # fmt: skip
def test_what_is_refused(port, method, path, status, message):
    found, headers, content = ask(port, method, path, GOOD if method == "POST" else None)
    assert (found, headers["Content-Type"]) == (status, "application/json")
    assert json.loads(content) == {"error": message}


@pytest.mark.parametrize("method, status", [("HEAD", 400), ("TRACE", 400)])
def test_methods(port, method, status):
    assert ask(port, method, "/v1/models/m")[0] == status


@pytest.mark.parametrize(
    "path",
    [
        "/V1/Models/m:predict",
        "/v1/models/%6d:predict",
        "/v1/models/a%20model:predict",
        "/v1/models/m/versions/007:predict",
    ],
)
def test_names_of_a_model(port, path):
    status, _, content = ask(port, "POST", path, GOOD, {"Content-Type": "text/nonsense"})
    assert (status, json.loads(content)) == (200, {"predictions": [2.5]})


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
    message = "Expected one of the signatures serving_default, received __saved_model_init_op."
    assert predict(port, body) == (400, {"error": message})


def test_tables_are_initialised(port):
    assert predict(port, {"instances": ["b", "z"]}, "table") == (200, {"predictions": [2, -1]})


def test_tensors_of_any_shape(port):
    deep = "é"
    for _ in range(200):  # more axes than NumPy has
        deep = [deep]
    for value in ("a", ["a", "b"], [], [["é"]], [[], []], deep):
        assert predict(port, {"inputs": value}, "any") == (200, {"outputs": value})
    assert predict(port, {"instances": [deep, deep]}, "any")[1] == {"predictions": [deep, deep]}
    assert predict(port, {"inputs": [["a"], "b"]}, "any")[0] == 400
    for depth in (300, 2_000, 500_000):
        assert predict(port, b'{"inputs": ' + b"[" * depth + b"]" * depth + b"}", "any")[0] == 400


def test_cors(folder, port):
    origin = {"Origin": "http://example.org"}
    allow = "Access-Control-Allow-Origin"
    with standin_server.running(folder / "m", enable_cors_support=True) as serving:
        for method, body, status in (
            ("OPTIONS", None, 200),
            ("POST", GOOD, 200),
            ("POST", b"", 400),
        ):
            found, headers, _ = ask(serving.port, method, PATH, body, origin)
            assert (found, headers[allow]) == (status, "*")
        assert ask(serving.port, "OPTIONS", "/v1/x", None, {"Origin": "file://"})[0] == 400
        assert allow not in ask(serving.port, "GET", "/elsewhere")[1]
    status, headers, content = ask(port, "OPTIONS", PATH, None, origin)
    assert (status, content, allow in headers) == (200, b"", False)


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
    after = [value(line) for line in counts]
    assert [a - b for a, b in zip(after, before, strict=True)] == [1, 1, 2, 1]
    _, _, content = ask(port, "GET", "/metrics")
    assert b"# TYPE :tensorflow:serving:request_count counter\n" in content
    assert b"# TYPE :tensorflow:serving:request_latency histogram\n" in content
    assert b'le="708235.0"' in content
    assert b"unheard-of" not in content
    assert ask(port, "GET", "/metrics?a=1")[0] == 404


def test_too_large_a_body(port):
    status, answer = predict(port, b" " * 2**20 + b"1")
    assert (status, "Expected at most 1048576 bytes" in answer["error"]) == (400, True)
    # One that says that it is larger still is refused before it is sent.
    chunked = b"Transfer-Encoding: chunked\r\n\r\n" + 17 * (b"10000\r\n" + b" " * 2**16 + b"\r\n")
    for rest in (b"Content-Length: 99999999999\r\n\r\n", chunked):
        with connect(port) as connection:
            connection.sendall(POST + rest)
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert predict(port, GOOD)[0] == 200


def test_expectations(port):
    with connect(port) as connection:
        connection.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 20\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(GOOD)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
    assert ask(port, "POST", PATH, GOOD, {"Expect": "foo"})[0] == 417


def test_gzip(port):
    packed = gzip.compress(GOOD)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(squeeze.compress(b" " * 2**20) for _ in range(101)) + squeeze.flush()
    for encoding, body, status in (
        ("gzip", packed, 200),
        ("GZIP", packed, 400),  # is not looked at
        ("GZIP", GOOD, 200),
        ("gzip", GOOD, 400),
        ("gzip", b"", 400),
        ("gzip", packed[:-9], 400),
        ("gzip", packed + b"x", 400),
        ("gzip", packed + packed, 400),
        ("gzip", bomb, 400),
    ):
        found = predict(port, body, headers={"Content-Encoding": encoding})
        assert found[0] == status, (encoding, body[:20], found)


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
    with standin_server.running(folder / "m", timeout_in_ms=400) as serving:
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
    flags = {"max_requests": 4, "num_threads": 1, "timeout_in_ms": 1500}
    statuses = []
    with standin_server.running(folder / "models.config", **flags) as serving:

        def send():
            statuses.append(predict(serving.port, long, "slow")[0])

        clients = [threading.Thread(target=send) for _ in range(4)]
        for client in clients:
            client.start()
        until(lambda: serving.server._places == 0)
        assert predict(serving.port, GOOD)[0] == 429
        # What needs no thread is answered all the same.
        assert ask(serving.port, "GET", "/v1/models/m")[0] == 200
        for client in clients:
            client.join()
        assert statuses == [504] * 4
        until(lambda: serving.server._places == 4)
        assert predict(serving.port, GOOD)[0] == 200


def test_bodies_that_take_too_much_memory_together(folder, monkeypatch):
    monkeypatch.setattr(http_server, "_HELD", 0)  # then four of the largest
    head = POST + b"Content-Length: %d\r\n\r\n" % 2**20
    with standin_server.running(folder / "m") as serving:
        connections = [connect(serving.port) for _ in range(5)]
        for connection in connections[:4]:
            connection.sendall(head + bytes(900_000))
        until(lambda: serving.server._held == 4 * 900_000)
        connections[4].sendall(head + bytes(900_000))
        assert connections[4].recv(100).startswith(b"HTTP/1.1 429 ")
        for connection in connections:
            connection.close()
        until(lambda: serving.server._held == 0)
        assert predict(serving.port, GOOD)[0] == 200


def test_a_client_that_does_not_read(folder):
    body = json.dumps({"instances": [{"b64": "A" * 900_000}]}).encode()
    head = b"POST /v1/models/s:predict HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
    with standin_server.running(folder / "models.config", timeout_in_ms=500) as serving:
        with connect(serving.port) as connection:
            connection.settimeout(5)
            with pytest.raises(OSError):  # the server reads no more, and hangs up
                for _ in range(100):
                    connection.sendall(head % len(body) + body)
        assert predict(serving.port, GOOD)[0] == 200
