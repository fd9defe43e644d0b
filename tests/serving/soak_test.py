"""Ten thousand requests, good, bad and hostile, from several clients; a new version under load."""

import base64
import collections
import concurrent.futures
import json
import random
import re
import runpy
import shutil
import socket
import time
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
import standin_server
import tensorflow as tf

from r2n2_keras.serving import warmup

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

REQUESTS, SETTLED, CLIENTS = 10_000, 3_000, 6
MODEL = "/v1/models/r2n2"
PREDICT = f"{MODEL}:predict"
Client = runpy.run_path(str(Path(__file__).parents[2] / "export" / "client.py"))["Client"]


def _encoded(content):
    return {"b64": base64.b64encode(content).decode()}


def _body(signature, instance):
    return json.dumps({"signature_name": signature, "instances": [instance]}).encode()


class _Requests:
    """What clients send, and what must come back; each kind is a method."""

    def __init__(self, url, version):
        address = urllib.parse.urlsplit(url)
        self.host, self.port = address.hostname, address.port
        *_, asked = (inputs for name, inputs in warmup.read(version) if name == "voxels")
        self.pictures = list(asked["image_bytes"][0])
        loaded = tf.saved_model.load(version).signatures
        self.voxels = {}
        for count in (1, 2, 3):
            views = tf.constant([self.pictures[:count]])
            self.voxels[count] = loaded["voxels"](image_bytes=views)["voxels_bytes"][0].numpy()
        self.occupancy = loaded["serving_default"](image_bytes=views)["occupancy"][0]
        answer = loaded["refine"](image_bytes=self.pictures[:1], state_bytes=[b""])
        self.state = answer["state_bytes"][0].numpy()
        self.whole = _body("voxels", {"image_bytes": [_encoded(self.pictures[0])]})
        self.good = (self.ask_voxels, self.ask_occupancy, self.ask_refine, self.ask_padded)
        self.bad = (self.wrong, self.huge, self.slow, self.disconnecting, self.garbage)

    def ask_voxels(self, rng, ask):
        count = rng.choice((1, 2, 3))
        _assert_voxels(ask.voxels(self.pictures[:count]), self.voxels[count])

    def ask_occupancy(self, rng, ask):
        np.testing.assert_allclose(ask.occupancy(self.pictures[:3]), self.occupancy, atol=1e-5)

    def ask_refine(self, rng, ask):
        voxels, state = ask.refine(self.pictures[0])
        assert state[:8] == self.state[:8]
        received, expected = (np.frombuffer(one[8:], "<f4") for one in (state, self.state))
        np.testing.assert_allclose(received, expected, atol=1e-5)
        _assert_voxels(voxels, self.voxels[1])

    def ask_padded(self, rng, ask):
        one, three = ask.voxels_of_many([self.pictures[:1], self.pictures[:3]])
        _assert_voxels(one, self.voxels[1])
        _assert_voxels(three, self.voxels[3])

    def ask_state(self, rng, ask):
        assert "AVAILABLE" in [version["state"] for version in ask.status()]
        assert ask.metadata()["model_spec"]["name"] == "r2n2"

    def wrong(self, rng, ask):
        picture = _encoded(self.pictures[0])
        cut = rng.randrange(len(self.whole) - 1)
        bodies = [
            self.whole[:cut],
            b"\xff" + self.whole,
            b"",
            b"[" * cut,
            _body("voxels", {"image_bytes": [_encoded(b"no picture")]}),
            _body("voxels", {"image_bytes": [{"b64": "a-_b"}]}),
            _body("voxels", {"image_bytes": []}),
            _body("refine", {"image_bytes": picture, "state_bytes": "x"}),
            _body("padded", {"image_bytes": [picture], "num_views": 7}),
            _body("nothing", {"image_bytes": [picture]}),
        ]
        paths = ["/v1/models/other:predict", f"{MODEL}/versions/99:predict", "/elsewhere"]
        cases = [*((PREDICT, body) for body in bodies), *((path, self.whole) for path in paths)]
        path, body = rng.choice(cases)
        status, _, content = standin_server.ask(self.port, "POST", path, body, host=self.host)
        assert 400 <= status < 500, (status, content[:300])

    def _send(self, content, length=None):
        """A connection on which this is sent: a body of so many bytes, or whatever it is."""
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode()
        connection = socket.create_connection((self.host, self.port), timeout=60)
        connection.sendall(content if length is None else head + content)
        return connection

    def disconnecting(self, rng, ask):
        sent = rng.choice((len(self.whole), rng.randrange(len(self.whole))))
        self._send(self.whole[:sent], len(self.whole)).close()

    def huge(self, rng, ask):
        with self._send(b"", 10**9) as connection:
            _assert_refused(connection, then=bytes(20 * 2**16))

    def slow(self, rng, ask):
        with self._send(b"", len(self.whole)) as connection:
            quarter = len(self.whole) // 4 + 1
            for start in range(0, len(self.whole), quarter):
                time.sleep(0.05)
                connection.sendall(self.whole[start : start + quarter])
            assert connection.recv(15) == b"HTTP/1.1 200 OK"

    def garbage(self, rng, ask):
        with self._send(rng.randbytes(rng.randrange(1, 4000)) + b"\r\n\r\n") as connection:
            _assert_refused(connection)


def _assert_refused(connection, then=b""):
    try:
        connection.sendall(then)
        answer = connection.recv(100)
    except OSError:  # it hung up
        return
    assert not answer or 400 <= int(answer.split()[1]) < 500, answer


def _assert_voxels(voxels, expected):
    assert voxels.shape == (32, 32, 32)
    differing = np.unpackbits(np.packbits(voxels) ^ np.frombuffer(expected, np.uint8)).mean()
    assert differing < 1e-3, differing  # a voxel at the threshold may round to either side


def _memory(process):
    """MB that a process holds; none of a server elsewhere."""
    if process is None:
        return 0
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def _work(url, count, kinds, seed=0):
    """Sends `count` requests from several clients; gives how many of each kind, and what failed."""
    sent, wrong = collections.Counter(), []
    numbers = iter(range(count))

    def client(rng):
        for _ in numbers:
            ask = rng.choice(rng.choice(kinds))
            try:
                with Client(url, timeout=60, retries=0) as one:
                    ask(rng, one)
            except Exception as error:
                wrong.append(f"{ask.__name__}: {type(error).__name__}: {str(error)[:500]}")
            sent[ask.__name__] += 1

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, [random.Random(f"{seed} {number}") for number in range(CLIENTS)]))
    return sent, wrong


def test_ten_thousand_requests(served):
    requests = _Requests(served.url, served.version)
    kinds = (requests.good, (requests.ask_state,), requests.bad)
    _, wrong = _work(served.url, SETTLED, kinds, seed=1)
    assert wrong == []
    settled = _memory(served.process)
    sent, wrong = _work(served.url, REQUESTS, kinds)
    assert wrong == []
    assert sum(sent.values()) == REQUESTS
    assert min(sent.values()) > REQUESTS / 50
    with Client(served.url) as one:
        for ask in requests.good:
            ask(random.Random(0), one)
    after = _memory(served.process)
    print(f"memory after {SETTLED} requests {settled:.0f} MB, {REQUESTS} later {after:.0f} MB")
    assert after <= 1.05 * settled


def test_a_new_version_under_load(exported, tmp_path):
    shutil.copytree(exported.version, tmp_path / "1")
    with (
        standin_server.command(f"--export_dir={tmp_path}") as server,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        requests = _Requests(server.url, exported.version)
        load = pool.submit(_work, server.url, 2_000, (requests.good,))
        for version in ("2", "3"):
            shutil.copytree(exported.version, tmp_path / "copying")
            (tmp_path / "copying").rename(tmp_path / version)
            _wait_for(server.url, version)
        shutil.rmtree(tmp_path / "3")  # and back
        _wait_for(server.url, "2")
        sent, wrong = load.result()
    assert wrong == []
    assert sum(sent.values()) == 2_000


def _wait_for(url, version):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with Client(url, timeout=60) as ask:
            states = {one["version"]: one["state"] for one in ask.status()}
        if states.get(version) == "AVAILABLE" and list(states.values()).count("AVAILABLE") == 1:
            return
        time.sleep(0.2)
    raise AssertionError(f"version {version} did not come to answer alone: {states}")
