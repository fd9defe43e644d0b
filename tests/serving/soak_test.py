"""Ten thousand requests, good, bad and hostile, from several clients; a new version under load."""

import base64
import collections
import http.client
import json
import random
import re
import shutil
import socket
import threading
import time
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
import serve_process
import tensorflow as tf

from r2n2_keras.serving import warmup

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

REQUESTS, SETTLED, CLIENTS = 10_000, 3_000, 6
PREDICT = "/v1/models/r2n2:predict"


def _encoded(content):
    return {"b64": base64.b64encode(content).decode()}


def _body(signature, *instances):
    return json.dumps({"signature_name": signature, "instances": list(instances)}).encode()


class _Requests:
    """What clients send, and what must come back. Each method returns the name of an outcome."""

    def __init__(self, url, version):
        address = urllib.parse.urlsplit(url)
        self.host, self.port = address.hostname, address.port
        asked = [i["image_bytes"] for name, i in warmup.read(version) if name == "voxels"]
        self.pictures = list(asked[-1][0])
        loaded = tf.saved_model.load(version).signatures
        self.voxels, self.occupancy, self.states = {}, {}, {}
        for count in (1, 2, 3):
            views = tf.constant([self.pictures[:count]])
            self.voxels[count] = loaded["voxels"](image_bytes=views)["voxels_bytes"][0].numpy()
            self.occupancy[count] = loaded["serving_default"](image_bytes=views)["occupancy"][0]
        answer = loaded["refine"](image_bytes=self.pictures[:1], state_bytes=[b""])
        self.state = answer["state_bytes"][0].numpy()
        self.good = (self.ask_voxels, self.ask_occupancy, self.ask_refine, self.ask_padded)
        self.light = (self.ask_status, self.ask_metadata)
        self.bad = (self.malformed, self.wrong, self.truncated, self.huge, self.slow)
        self.bad += (self.disconnecting, self.garbage)

    def _exchange(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _predict(self, body):
        status, content = self._exchange("POST", PREDICT, body)
        assert status == 200, content[:300]
        return json.loads(content)["predictions"]

    def _views(self, count):
        return [_encoded(picture) for picture in self.pictures[:count]]

    def ask_voxels(self, rng):
        count = rng.choice((1, 2, 3))
        (answer,) = self._predict(_body("voxels", {"image_bytes": self._views(count)}))
        _assert_bits(answer, self.voxels[count])

    def ask_occupancy(self, rng):
        (answer,) = self._predict(_body("serving_default", {"image_bytes": self._views(2)}))
        np.testing.assert_allclose(answer, self.occupancy[2], atol=1e-5)

    def ask_refine(self, rng):
        instance = {"image_bytes": self._views(1)[0], "state_bytes": ""}
        (answer,) = self._predict(_body("refine", instance))
        state = base64.b64decode(answer["state_bytes"]["b64"])
        assert state[:8] == self.state[:8]
        received, expected = np.frombuffer(state[8:], "<f4"), np.frombuffer(self.state[8:], "<f4")
        np.testing.assert_allclose(received, expected, atol=1e-5)
        _assert_bits(answer["voxels_bytes"], self.voxels[1])

    def ask_padded(self, rng):
        one, three = self._views(1), self._views(3)
        answers = self._predict(
            _body(
                "padded",
                {"image_bytes": [*one, "", ""], "num_views": 1},
                {"image_bytes": three, "num_views": 3},
            )
        )
        _assert_bits(answers[0], self.voxels[1])
        _assert_bits(answers[1], self.voxels[3])

    def ask_status(self, rng):
        status, content = self._exchange("GET", "/v1/models/r2n2")
        states = [v["state"] for v in json.loads(content)["model_version_status"]]
        assert status == 200
        assert "AVAILABLE" in states

    def ask_metadata(self, rng):
        status, content = self._exchange("GET", "/v1/models/r2n2/metadata")
        assert status == 200
        assert json.loads(content)["model_spec"]["name"] == "r2n2"

    def malformed(self, rng):
        body = _body("voxels", {"image_bytes": self._views(1)})
        cut = rng.randrange(len(body) - 1)
        self._refused("POST", PREDICT, rng.choice((body[:cut], b"\xff" + body, b"", b"[" * cut)))

    def wrong(self, rng):
        picture = self._views(1)[0]
        self._refused(
            "POST",
            *rng.choice(
                [
                    (PREDICT, _body("voxels", {"image_bytes": [5]})),
                    (PREDICT, _body("voxels", {"image_bytes": [_encoded(b"no picture")]})),
                    (PREDICT, _body("voxels", {"image_bytes": [{"b64": "a-_b"}]})),
                    (PREDICT, _body("voxels", {"image_bytes": []})),
                    (PREDICT, _body("refine", {"image_bytes": picture, "state_bytes": "x"})),
                    (PREDICT, _body("padded", {"image_bytes": [picture], "num_views": 7})),
                    (PREDICT, _body("images", {"images": [[["a"]]]})),
                    (PREDICT, _body("nothing", {"image_bytes": [picture]})),
                    ("/v1/models/other:predict", _body("voxels", {"image_bytes": [picture]})),
                    ("/v1/models/r2n2/versions/99:predict", _body("voxels", 1)),
                    ("/v1/models/r2n2:predict?a=b", b"{}"),
                    ("/elsewhere", b"{}"),
                ]
            ),
        )

    def _refused(self, method, path, body):
        status, content = self._exchange(method, path, body)
        assert 400 <= status < 500, (status, content[:300])

    def _send(self, content):
        connection = socket.create_connection((self.host, self.port), timeout=60)
        connection.sendall(content)
        return connection

    def _head(self, length):
        return f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode()

    def truncated(self, rng):
        body = _body("voxels", {"image_bytes": self._views(1)})
        self._send(self._head(len(body)) + body[: rng.randrange(len(body))]).close()

    def huge(self, rng):
        with self._send(self._head(10**9)) as connection:
            try:
                for _ in range(20):
                    connection.sendall(bytes(2**16))
                answer = connection.recv(100)
            except OSError:  # it hung up
                return
        assert not answer or 400 <= int(answer.split()[1]) < 500, answer

    def slow(self, rng):
        body = _body("voxels", {"image_bytes": self._views(1)})
        with self._send(self._head(len(body))) as connection:
            for start in range(0, len(body), len(body) // 4 + 1):
                time.sleep(0.05)
                connection.sendall(body[start : start + len(body) // 4 + 1])
            assert connection.recv(15) == b"HTTP/1.1 200 OK"

    def disconnecting(self, rng):
        body = _body("voxels", {"image_bytes": self._views(1)})
        self._send(self._head(len(body)) + body).close()

    def garbage(self, rng):
        with self._send(rng.randbytes(rng.randrange(1, 4000)) + b"\r\n\r\n") as connection:
            try:
                answer = connection.recv(100)
            except OSError:
                return
        assert not answer or 400 <= int(answer.split()[1]) < 500, answer


def _assert_bits(received, expected):
    ours = np.frombuffer(base64.b64decode(received["b64"]), np.uint8)
    assert ours.shape == (4096,)
    differing = np.unpackbits(ours ^ np.frombuffer(expected, np.uint8)).mean()
    assert differing < 1e-3, differing  # a voxel at the threshold may round to either side


def _memory(process):
    """MB that a process holds; None of a server elsewhere."""
    if process is None:
        return None
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def _work(requests, count, kinds, seed=0):
    """Sends `count` requests from several clients.

    Returns:
        How many there were of each kind, and what went wrong.
    """
    sent, wrong = collections.Counter(), []
    numbers = iter(range(count))

    def client(rng):
        for _ in numbers:
            ask = rng.choice(rng.choice(kinds))
            try:
                ask(rng)
            except Exception as error:
                wrong.append(f"{ask.__name__}: {type(error).__name__}: {str(error)[:500]}")
            sent[ask.__name__] += 1

    threads = [
        threading.Thread(target=client, args=(random.Random(f"{seed} {n}"),))
        for n in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sent, wrong


def test_ten_thousand_requests(served):
    requests = _Requests(served.url, served.version)
    kinds = (requests.good, requests.light, requests.bad)
    _, wrong = _work(requests, SETTLED, kinds, seed=1)
    assert wrong == []
    settled = _memory(served.process)
    sent, wrong = _work(requests, REQUESTS, kinds)
    assert wrong == []
    assert sum(sent.values()) == REQUESTS
    assert min(sent.values()) > REQUESTS / 50
    for ask in (*requests.good, *requests.light):
        ask(random.Random(0))
    after = _memory(served.process)
    print(f"memory after {SETTLED} requests {settled:.0f} MB, {REQUESTS} later {after:.0f} MB")
    assert after is None or after < 1.05 * settled


def test_a_new_version_under_load(exported, tmp_path):
    shutil.copytree(exported.version, tmp_path / "1")
    with serve_process.running(f"--export_dir={tmp_path}") as server:
        requests = _Requests(server.url, exported.version)
        results = []
        load = threading.Thread(
            target=lambda: results.append(_work(requests, 2_000, (requests.good,)))
        )
        load.start()
        for version in ("2", "3"):
            shutil.copytree(exported.version, tmp_path / "copying")
            (tmp_path / "copying").rename(tmp_path / version)
            _wait_for(requests, version)
        shutil.rmtree(tmp_path / "3")  # and back
        _wait_for(requests, "2")
        load.join()
        (sent, wrong), *_ = results
    assert wrong == []
    assert sum(sent.values()) == 2_000


def _wait_for(requests, version):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        _, content = requests._exchange("GET", "/v1/models/r2n2")
        states = {v["version"]: v["state"] for v in json.loads(content)["model_version_status"]}
        if states.get(version) == "AVAILABLE" and list(states.values()).count("AVAILABLE") == 1:
            return
        time.sleep(0.2)
    raise AssertionError(f"version {version} did not come to answer alone: {states}")
