"""The server on a socket: what it answers besides predictions, and what it puts up with."""

import concurrent.futures
import gzip
import json
import re
import time
import zlib

import hypothesis
import numpy as np
import pytest
import standin_models
import standin_server
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from standin_server import ask, connect, predict, read_all, until

from r2n2_keras.standin import http_server, rest

GOOD = b'{"instances": [1.0]}'
PATH = "/v1/models/m:predict"
POST = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    standin_models.write(folder / "m" / "7", "default")
    for name, model in (("slow", "slow"), ("s", "strmodel"), ("multi", "multi")):
        standin_models.write(folder / name / "1", model)
    standin_models.table(folder / "table" / "1")
    for name, dtype in (("any", tf.string), ("bf16", tf.bfloat16), ("uint8", tf.uint8)):
        standin_models.identity(folder / name / "1", dtype)
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
        ("GET", "/v1/models/", 400, "Malformed request: GET /v1/models/"),
        ("GET", "/v1/models/no/metadata", 404, "Servable not found for request: Latest(no)"),
        ("GET", "/v1/models/m/labels/L/metadata", 400, "Unrecognized servable version label: L"),
        ("POST", "/v1/models/m/labels/a%20b:predict", 400,
         "Unrecognized servable version label: a b"),
        ("POST", f"/v1/models/m/versions/{2**63}:predict", 400,
         f"Expected a version of at most {2**63 - 1}, received {2**63}."),
    ],
)  # fmt: skip
def test_what_is_refused(port, method, path, status, message):
    found, headers, content = ask(port, method, path, GOOD if method == "POST" else None)
    assert (found, headers["Content-Type"]) == (status, "application/json")
    assert json.loads(content) == {"error": message}


NONE = "Expected one of the signatures serving_default, received __saved_model_init_op."


@pytest.mark.parametrize(
    "model, body, status, answer",
    [
        ("%6d", GOOD, 200, {"predictions": [2.5]}),
        ("a%20model", GOOD, 200, {"predictions": [2.5]}),
        ("m/versions/007", GOOD, 200, {"predictions": [2.5]}),
        ("m/VERSIONS/7", GOOD, 200, {"predictions": [2.5]}),
        ("table", {"instances": ["b", "z"]}, 200, {"predictions": [2, -1]}),  # is initialised
        ("m", {"signature_name": "__saved_model_init_op", "instances": [1]}, 400, {"error": NONE}),
    ],
)
def test_names(port, model, body, status, answer):
    headers = {"Content-Type": "text/nonsense"}
    assert predict(port, body, model, headers) == (status, answer)


def test_metadata(port):
    status, _, content = ask(port, "GET", "/v1/models/m/versions/7/metadata")
    answer = json.loads(content)
    assert status == 200
    assert answer["model_spec"] == {"name": "m", "signature_name": "", "version": "7"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    initial = signatures["__saved_model_init_op"]
    assert initial["method_name"] == ""
    assert initial["outputs"]["__saved_model_init_op"]["dtype"] == "DT_INVALID"
    default = signatures["serving_default"]
    assert default["method_name"] == "tensorflow/serving/predict"
    assert default["defaults"] == {}
    taken, edges = default["inputs"]["x"], [{"name": "", "size": "-1"}, {"name": "", "size": "1"}]
    assert (taken["dtype"], taken["tensor_shape"]["dim"]) == ("DT_FLOAT", edges)
    assert ask(port, "GET", "/v1/models/m/Metadata")[2] == ask(port, "GET", "/v1/models/m")[2]


def test_tensors_of_any_shape(port):
    for value in ("a", ["a", "b"], [], [["é"]], [[], []], [[[[[["a"]]]]]]):
        assert predict(port, {"inputs": value}, "any") == (200, {"outputs": value})
    assert predict(port, {"inputs": [["a"], "b"]}, "any")[0] == 400
    for depth in (40, 300, 2_000, 500_000):
        assert predict(port, b'{"inputs": ' + b"[" * depth + b"]" * depth + b"}", "any")[0] == 400


def test_cors(folder, port):
    origin = {"Origin": "http://example.org"}
    allow = "Access-Control-Allow-Origin"
    with standin_server.running(folder / "m", enable_cors_support=True) as serving:
        asked = [("OPTIONS", None, 200), ("POST", GOOD, 200), ("POST", b"", 400)]
        for method, body, status in asked:
            found, headers, _ = ask(serving.port, method, PATH, body, origin)
            assert (found, headers[allow]) == (status, "*")
        assert ask(serving.port, "OPTIONS", "/v1/x", None, {"Origin": "file://"})[0] == 400
        assert allow not in ask(serving.port, "GET", "/elsewhere")[1]
    status, headers, content = ask(port, "OPTIONS", PATH, None, origin)
    assert (status, content, allow in headers) == (200, b"", False)


def test_prometheus(port):
    counts = [
        ':tensorflow:serving:request_count{model_name="m",status="OK"}',
        ':tensorflow:serving:request_count{model_name="m",status="INVALID_ARGUMENT"}',
        ':tensorflow:serving:request_latency_count{API="predict",entrypoint="REST",model_name="m"}',
        ':tensorflow:serving:runtime_latency_count{API="Predict",model_name="m",runtime="TF1"}',
    ]

    def look():
        _, headers, content = ask(port, "GET", "/metrics")
        assert headers["Content-Type"].startswith("text/plain")
        values = dict(line.rsplit(" ", 1) for line in content.decode().splitlines())
        return content, np.array([float(values.get(count, 0)) for count in counts])

    _, before = look()
    for body, model in ((GOOD, "m"), (b"{", "m"), (GOOD, "unheard-of")):
        predict(port, body, model)
    content, after = look()
    assert (after - before).tolist() == [1, 1, 2, 1]
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
    for declared in (b"Content-Length: 99999999999\r\n\r\n", chunked):
        with connect(port) as connection:
            connection.sendall(POST + declared)
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


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
    with (
        standin_server.running(folder / "models.config", **flags) as serving,
        concurrent.futures.ThreadPoolExecutor(4) as pool,
    ):
        late = [pool.submit(predict, serving.port, long, "slow") for _ in range(4)]
        until(lambda: serving.server._places == 0)
        assert predict(serving.port, GOOD)[0] == 429
        # What needs no thread is answered all the same.
        assert ask(serving.port, "GET", "/v1/models/m")[0] == 200
        assert [one.result()[0] for one in late] == [504] * 4
        until(lambda: serving.server._places == 4)
        assert predict(serving.port, GOOD)[0] == 200


def test_bodies_that_take_too_much_memory_together(folder, monkeypatch):
    monkeypatch.setattr(http_server, "_HELD", 0)  # then four of the largest
    part = POST + b"Content-Length: %d\r\n\r\n" % 2**20 + bytes(900_000)
    with standin_server.running(folder / "m") as serving:
        connections = [connect(serving.port) for _ in range(5)]
        for connection in connections[:4]:
            connection.sendall(part)
        until(lambda: serving.server._held == 4 * 900_000)
        connections[4].sendall(part)
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


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(10**25), 10**25), st.floats(),
        st.text(max_size=5), st.just({"b64": "AA=="}), st.just({"b64": "!"}),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "s", "int_tensor", "str_tensor", "b64", ""]), inner)
    ),
    max_leaves=10,
)  # fmt: skip
REQUESTS = st.dictionaries(st.sampled_from(["instances", "inputs", "zzz"]), VALUES, max_size=2)
MODELS = st.sampled_from(["m", "multi", "s", "bf16", "uint8", "none"])
SIGNATURES = st.sampled_from(["", "none", "__saved_model_init_op"])


def _check_status(port, model, body, **headers):
    status, answer = predict(port, body, model, headers)
    assert status in (200, 400, 404, 501), answer
    assert status != 501 or model == "bf16"
    assert (status == 200) == ("error" not in answer)


@hypothesis.settings(max_examples=300)
@given(MODELS, SIGNATURES, REQUESTS)
def test_any_document(port, model, signature, request):
    request = {**request, **({"signature_name": signature} if signature else {})}
    _check_status(port, model, request)


@given(st.binary(max_size=60), st.sampled_from(["", "gzip"]))
def test_any_bytes(port, body, encoding):
    _check_status(port, "m", body, **{"Content-Encoding": encoding})


@given(st.integers(0, 60), st.integers(0, 255))
def test_one_wrong_byte(port, at, byte):
    body = bytearray(b'{"instances": [{"int_tensor": 1, "str_tensor": "a\\u00e9"}]}')
    body[at % len(body)] = byte
    _check_status(port, "multi", bytes(body))


@given(st.text(max_size=30), st.sampled_from(["GET", "POST"]))
def test_any_path(text, method):
    for path in (f"/v1/{text}", f"/v1/models/{text}", f"/v1/models/{text}:predict"):
        try:
            route = rest.parse_route(method, path)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            continue
        assert route.verb == "predict" if method == "POST" else route.verb in ("status", "metadata")
        assert route.model
