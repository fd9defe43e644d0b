"""The client, and the health check, against a server that speaks TensorFlow Serving's contract."""

import base64
import contextlib
import email.utils
import gzip
import hashlib
import http.server
import importlib.util
import itertools
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh

import r2n2_keras

EXPORT = Path(__file__).parents[2] / "export"
N = 32

_spec = importlib.util.spec_from_file_location("serving_client", EXPORT / "client.py")
client = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(client)


def grid_of(pictures):
    """A grid that depends on the pictures and on their order, and is like no mirror image."""
    seed = hashlib.sha256(b"|".join(pictures)).digest()
    grid = np.zeros((N, N, N), bool)
    grid[: 3 + seed[0] % 20, : 3 + seed[1] % 20, : 3 + seed[2] % 20] = True
    grid[1, 30, 5] = True
    return grid


def b64(content):
    return {"b64": base64.b64encode(content).decode()}


def unb64(value):
    assert list(value) == ["b64"]
    return base64.b64decode(value["b64"], validate=True)


def status_of(state):
    status = {"error_code": "UNAVAILABLE", "error_message": "not AVAILABLE"}
    return {"model_version_status": [{"version": "1", "state": state, "status": status}]}


def packed(grid):
    return b64(np.packbits(grid).tobytes())


def predictions(signature, instances):
    """What the exported model answers, and what TensorFlow Serving makes of it in JSON."""
    assert isinstance(instances, list) and instances
    answers = []
    for instance in instances:
        if signature in ("voxels", "serving_default"):
            grid = grid_of([unb64(picture) for picture in instance])
            answers.append(packed(grid) if signature == "voxels" else grid.astype(float).tolist())
        elif signature == "padded":
            pictures = [unb64(picture) for picture in instance["image_bytes"]]
            assert len(pictures) == len(instances[0]["image_bytes"])
            count = instance["num_views"]
            assert type(count) is int and set(pictures[count:]) <= {b""}
            answers.append(packed(grid_of(pictures[:count])))
        else:
            assert signature == "refine"
            state, picture = unb64(instance["state_bytes"]), unb64(instance["image_bytes"])
            state = b"|".join([state, picture] if state else [picture])
            grid = grid_of(state.split(b"|"))
            answers.append({"voxels_bytes": packed(grid), "state_bytes": b64(state)})
    return {"predictions": answers}


class Server(http.server.ThreadingHTTPServer):
    """Answers as the contract says, or with what `script` holds for the requests to come.

    An entry is a dict (JSON, 200), bytes (a body, 200), a tuple of status, headers and body, or a
    function that is given the handler and writes the answer itself.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.connections = [], [], 0
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.server.connections += 1

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer(None)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Encoding"] == "gzip"
        self._answer(json.loads(gzip.decompress(body)))

    def _answer(self, request):
        self.server.requests.append((self.path, request))
        answer = self.server.script.pop(0) if self.server.script else self._contract(request)
        if callable(answer):
            answer(self)
        else:
            self.send(*(answer if isinstance(answer, tuple) else (200, {}, answer)))

    def _contract(self, request):
        path = re.sub("^/behind|/versions/1|/labels/stable", "", self.path)
        if path == "/v1/models/r2n2:predict":
            return predictions(request["signature_name"], request["instances"])
        if path == "/v1/models/r2n2/metadata":
            return {"model_spec": {"name": "r2n2", "version": "1"}, "metadata": {}}
        if path == "/v1/models/r2n2":
            return status_of("AVAILABLE")
        return 404, {}, {"error": "Servable not found for request: Latest(other)"}

    def send(self, status, headers, body):
        if not isinstance(body, bytes):
            body = json.dumps(body, indent=4).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def quick(monkeypatch):
    """Waits take no time; gives the list of what they would have taken."""
    waits = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    return waits


@pytest.fixture
def one(server):
    with client.Client(server.url, timeout=20) as one:
        yield one


def raw(content):
    """Writes this, whatever it is, and ends the connection."""

    def answer(handler):
        handler.wfile.write(content)
        handler.close_connection = True

    return answer


drop = raw(b"")
half = raw(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"predictions": [')
UNAVAILABLE = (503, {}, {"error": "busy"})


def test_voxels_of_bytes_and_paths_in_order(one, server, tmp_path):
    (tmp_path / "b.png").write_bytes(b"second")
    voxels = one.voxels([b"first", tmp_path / "b.png"])
    assert voxels.dtype == bool
    np.testing.assert_array_equal(voxels, grid_of([b"first", b"second"]))
    assert not np.array_equal(voxels, one.voxels([str(tmp_path / "b.png"), b"first"]))
    assert server.requests[0][0] == "/v1/models/r2n2:predict"


def test_the_first_bit_is_the_highest_z_is_fastest_and_the_edge_comes_from_the_bytes(one, server):
    bits = b"\x80" + bytes(4094) + b"\x03"
    server.script = [{"predictions": [b64(content)]} for content in (bits, bytes(64**3 // 8))]
    assert np.argwhere(one.voxels([b"x"])).tolist() == [[0, 0, 0], [31, 31, 30], [31, 31, 31]]
    assert one.voxels([b"x"]).shape == (64, 64, 64)


def test_objects_with_different_numbers_of_views(one, server):
    objects = [[b"a"], [b"b", b"c", b"d"], [b"e", b"f"]]
    voxels = one.voxels_of_many(objects)
    for grid, pictures in zip(voxels, objects, strict=True):
        np.testing.assert_array_equal(grid, grid_of(pictures))
    assert len(server.requests) == 1


def test_status_and_metadata(one, server):
    (version,) = one.status()
    assert (version["version"], version["state"]) == ("1", "AVAILABLE")
    assert one.metadata()["model_spec"]["version"] == "1"
    server.script = [(404, {}, {"error": "Servable not found"}), UNAVAILABLE, b"[]", drop, drop]
    assert [one.is_ready() for _ in range(5)] == [False, False, False, False, True]
    assert {path for path, _ in server.requests[1:]} == {"/v1/models/r2n2/metadata"}


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ({}, "/v1/models/r2n2"),
        ({"version": 1}, "/v1/models/r2n2/versions/1"),
        ({"label": "stable"}, "/v1/models/r2n2/labels/stable"),
        ({"model": "a/b c:d", "label": "e/f?"}, "/v1/models/a%2Fb%20c%3Ad/labels/e%2Ff%3F"),
    ],
)
def test_paths(server, where, path):
    with client.Client(server.url + "/behind/", **where) as one:
        with contextlib.suppress(client.ServingError):  # there is one model alone
            one.voxels([b"a"])
        one.is_ready()
    assert [p for p, _ in server.requests] == [f"/behind{path}:predict", f"/behind{path}/metadata"]


URLS = "localhost:8501 ftp://a http:// http://a:port http://a/?b http://user:word@a".split()
NUMBERS = ({"timeout": 0}, {"timeout": float("nan")}, {"retries": -1})


@pytest.mark.parametrize(
    "wrong", [*({"url": url} for url in URLS), {"version": 1, "label": "stable"}, *NUMBERS]
)
def test_arguments_out_of_range(wrong):
    with pytest.raises(ValueError):
        client.Client(**{"url": "http://localhost:8501", **wrong})


def test_pictures_that_are_none(one, server, tmp_path):
    for wrong in ([], [b""], b"one", "one.png", tmp_path / "one.png"):
        with pytest.raises(ValueError):
            one.voxels(wrong)
    for wrong in ([], [[b"a"], []]):
        with pytest.raises(ValueError):
            one.voxels_of_many(wrong)
    with pytest.raises(FileNotFoundError):
        one.voxels(["absent.png"])
    assert not server.requests


def test_https():
    with client.Client("https://localhost") as one:
        assert isinstance(one._connection, client.http.client.HTTPSConnection)
        assert one._connection.port == 443


@pytest.mark.parametrize("status", [429, 503, 504])
def test_tries_again_after_waits_that_grow_and_differ(one, server, quick, status):
    for _ in range(2):
        server.script = [(status, {}, {"error": "busy"})] * 3
        assert one.voxels([b"a"]).any()
    assert len(server.requests) == 8 and server.connections == 1
    for attempt, wait in enumerate(quick):
        assert 0.125 <= wait / 2 ** (attempt % 3) <= 0.25
    assert len(set(quick)) == 6


@pytest.mark.parametrize("status", [301, 400, 401, 404, 409, 500, 501])
def test_does_not_try_again(one, server, quick, status):
    text = "Expected at least one\n view,\x1b[31m received none"
    server.script = [(status, {}, {"error": text})]
    with pytest.raises(client.ServingError) as caught:
        one.voxels([b"a"])
    assert caught.value.status == status
    assert caught.value.message == "Expected at least one view, [31m received none"
    assert str(caught.value) == f"HTTP {status}: {caught.value.message}"
    assert len(server.requests) == 1 and not quick


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ([UNAVAILABLE, UNAVAILABLE, (504, {}, {"error": "too slow"})], "HTTP 504: too slow"),
        ([(503, {"Retry-After": "3600"}, {"error": "full"})], "HTTP 503: full"),
        ([(503, {"Retry-After": "9" * 400}, {"error": "full"})], "HTTP 503: full"),
        ([(502, {}, b"<html>\n<b>Bad gateway</b>")], "HTTP 502: <html> <b>Bad gateway</b>"),
        ([(502, {}, b'["Bad gateway"]')], 'HTTP 502: ["Bad gateway"]'),
        ([(502, {}, b"\xffBad gateway" + b"x" * 10**6)], "HTTP 502: \ufffdBad gatewayxxx"),
    ],
    ids=["tries", "deadline", "far deadline", "page", "list", "long"],
)
def test_gives_up_with_the_last_text_cut(server, quick, script, message):
    server.script = list(script)
    with client.Client(server.url, retries=2) as one:
        with pytest.raises(client.ServingError, match=f"^{re.escape(message)}") as caught:
            one.voxels([b"a"])
    assert len(server.requests) == len(quick) + 1 == len(script)
    assert len(str(caught.value)) < 1000


def test_retry_after(one, server, quick):
    soon, past = (email.utils.formatdate(t, usegmt=True) for t in (time.time() + 8, 0))
    for header in ("7", soon, "garbage", past):
        server.script.append((429, {"Retry-After": header}, {"error": "busy"}))
        one.voxels([b"a"])
    assert all(6 < wait <= 8 for wait in quick[:2])
    assert all(wait <= 0.25 for wait in quick[2:])


def test_dropped_connections(one, server, quick):
    half_a_chunk = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{")
    server.script = [drop, half, half_a_chunk, raw(b"hello, this is no HTTP\r\n")]
    np.testing.assert_array_equal(one.voxels([b"a"]), grid_of([b"a"]))
    assert len(server.requests) == 5 and len(quick) == 4


ANSWER = json.dumps(predictions("voxels", [[b64(b"a")]])).encode()


def test_kept_connection_that_the_server_closed(server, quick):
    # Without saying so, as after a time of no requests, or with it.
    heads = (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
    length = b"Content-Length: %d\r\n\r\n" % len(ANSWER)
    server.script = [raw(head + length + ANSWER) for head in heads] * 2
    with client.Client(server.url, retries=0) as one:
        for _ in range(5):
            one.voxels([b"a"])
    assert server.connections == 5 and not quick


def test_bodies_of_every_form(one, server):
    def chunked(handler):
        parts = [ANSWER[:10], ANSWER[10:5000], ANSWER[5000:], b""]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)

    server.script = [chunked, raw(b"HTTP/1.0 200 OK\r\n\r\n" + ANSWER), chunked]
    for _ in range(4):
        np.testing.assert_array_equal(one.voxels([b"a"]), grid_of([b"a"]))
    assert server.connections == 2


@pytest.mark.parametrize("pace", ["silent", "dripping"])
def test_the_deadline_is_one_of_all(server, pace):
    done = threading.Event()

    def slow(handler):
        if pace == "dripping":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
            while not done.wait(0.05):
                handler.wfile.write(b" ")
        done.wait(60)
        handler.close_connection = True

    server.script = [slow] * 10
    begin = time.monotonic()
    with client.Client(server.url, timeout=0.5) as one:
        with pytest.raises(client.ServingError, match="timed out") as caught:
            one.voxels([b"a"])
    done.set()
    assert caught.value.status == 0
    assert 0.4 < time.monotonic() - begin < 10


def test_after_a_failure_the_next_call_gets_its_own_answer(one, server):
    server.script = [half, drop, b"{", UNAVAILABLE]
    one.retries = 0
    for _ in range(4):
        with pytest.raises(client.ServingError):
            one.voxels([b"a"])
    np.testing.assert_array_equal(one.voxels([b"b"]), grid_of([b"b"]))


def test_huge_answers_are_refused(one, server, monkeypatch):
    monkeypatch.setattr(client, "MAX_RESPONSE", 10**5)
    sent = []

    def endless(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        handler.close_connection = True
        with contextlib.suppress(OSError):
            for _ in range(10**4):
                handler.wfile.write(b" " * 10**5)
                sent.append(1)

    server.script = [endless]
    with pytest.raises(client.ServingError, match="at most 100000 bytes"):
        one.voxels([b"a"])
    assert len(sent) < 1000
    assert one.voxels([b"a"]).any()


VALUES = [
    b"", b"1, 2", b"[]", b"null", b"1e400", b'"' + b"A" * 5464 + b'"', b"9" * 5000,
    b"[" * 900 + b"]" * 900, b'{"b64": 1}', b'{"b64": "a"}', b'{"b64": "\xc3\xa9"}',
    b'{"b64": ""}', b'{"b64": "_-_-"}', b"[[[NaN]]]", b"[[[1.5]]]", b"[[[-1e300]]]",
    b"[[[0, 0], [0, 0]]]", b"[[[0.1]], [[0.1, 0.2]]]", b'[[["a"]]]', b"[[[{}]]]", b"[[[null]]]",
    b"[[[1%s]]]" % (b"0" * 400),
    *(json.dumps(b64(bytes(size))).encode() for size in (1001, 4095, 4097)),
]  # fmt: skip
HOSTILE = [
    b"", b"nothing", b"null", b"[]", b"{}", b'{"predictions": null}', b'{"predictions": {}}',
    b'{"predictions": %s}' % (b"[" * 10**6), b'{"predictions": %s' % (b'{"a":' * 10**6),
    *(b'{"predictions": [%s]}' % value for value in VALUES),
]  # fmt: skip


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_answers(server, body):
    with client.Client(server.url) as one:
        for call in (one.voxels, one.occupancy, lambda p: one.refine(p[0])):
            server.script = [body]
            with pytest.raises(client.ServingError) as caught:
                call([b"a"])
            assert caught.value.status == 200
    assert len(server.requests) == 3


def test_grids_of_several_sizes(one, server):
    server.script = [{"predictions": [b64(bytes(1)), b64(bytes(8))]}]
    with pytest.raises(client.ServingError, match="one size"):
        one.voxels_of_many([[b"a"], [b"b"]])


def _solids():
    box, ring = np.zeros((N, N, N), bool), np.zeros((8, 8, 8), bool)
    box[2:10, 4:30, 7:9] = True
    ell = box.copy()
    ell[2:4, 4:6, 9:20] = True
    ring[1:7, 2:5, 1:7] = True
    ring[3:5, :, 3:5] = False
    full = {"one": np.ones((1, 1, 1), bool), "full": np.ones((8, 8, 8), bool)}
    return {**full, "box": box, "ell": ell, "ring": ring}


def _naive_faces(voxels):
    """Twice the middle of each face, in cells, and its normal."""
    occupied = set(map(tuple, np.argwhere(voxels).tolist()))
    normals = [*np.eye(3, dtype=int), *-np.eye(3, dtype=int)]
    return {
        (*(2 * np.array(cell) + 1 + normal), *normal)
        for cell, normal in itertools.product(occupied, normals)
        if tuple(cell + normal) not in occupied
    }


@pytest.mark.parametrize("name", [*_solids(), "noise"])
def test_glb_is_the_surface(name, tmp_path):
    voxels = {**_solids(), "noise": np.random.default_rng(0).random((9, 9, 9)) < 0.4}[name]
    n = len(voxels)
    client._write(tmp_path / "a.glb", voxels)
    mesh = trimesh.load(tmp_path / "a.glb", force="mesh", process=False)
    content = client.glb(voxels)
    size = int.from_bytes(content[12:16], "little")
    header = json.loads(content[20 : 20 + size])
    (buffer,), (positions, *_) = header["buffers"], header["accessors"]
    assert buffer["byteLength"] == len(content) - size - 28
    assert [positions["min"], positions["max"]] == mesh.bounds.tolist()
    faces = _naive_faces(voxels)
    assert len(mesh.vertices) == 4 * len(faces) and len(mesh.faces) == 2 * len(faces)
    middles = np.round(2 * n * (mesh.vertices.reshape(-1, 4, 3).mean(1) + 0.5))
    flat = mesh.vertex_normals.reshape(-1, 4, 3)
    assert (flat == flat[:, :1]).all()
    found = np.concatenate([middles, flat[:, 0]], axis=1).astype(int)
    assert set(map(tuple, found.tolist())) == faces
    # The winding says the same as the normals.
    np.testing.assert_allclose(mesh.face_normals, np.repeat(flat[:, 0], 2, axis=0), atol=1e-4)

    mesh.merge_vertices(merge_norm=True)
    # Noise has edges that four faces share.
    assert name == "noise" or (mesh.is_watertight and mesh.is_winding_consistent)
    np.testing.assert_allclose(mesh.volume, voxels.mean(), rtol=1e-5)


def test_glb_of_nothing():
    with pytest.raises(ValueError, match="received none"):
        client.glb(np.zeros((4, 4, 4), bool))


@pytest.mark.parametrize("name", [*_solids(), "nothing", "noise"])
def test_binvox_npz_npy(name, tmp_path):
    noise = np.random.default_rng(1).random((N, N, N)) < 0.5
    voxels = {**_solids(), "nothing": np.zeros((N, N, N), bool), "noise": noise}[name]
    for suffix in ("binvox", "npz", "npy"):
        client._write(tmp_path / "new" / f"a.{suffix}", voxels)
    read = r2n2_keras.binvox.read(tmp_path / "new" / "a.binvox")
    np.testing.assert_array_equal(read.data, voxels)
    assert read.translate == (-0.5, -0.5, -0.5) and read.scale == 1
    assert (tmp_path / "new" / "a.binvox").read_bytes() == r2n2_keras.binvox.encode(read)
    np.testing.assert_array_equal(np.load(tmp_path / "new" / "a.npz")["voxels"], voxels)
    np.testing.assert_array_equal(np.load(tmp_path / "new" / "a.npy"), voxels)
    assert len(list((tmp_path / "new").iterdir())) == 3


def test_what_stands_there_stays_until_the_file_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    path.write_bytes(b"old")

    def fail(self, _):
        self.touch()
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        client._write(path, np.ones((2, 2, 2), bool))
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]
    assert path.read_bytes() == b"old"


def _run(cwd, flags):
    command = [sys.executable, "-I", str(EXPORT / "client.py"), *flags.split()]
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.fixture
def views(tmp_path):
    (tmp_path / "views").mkdir()
    for name in ("b.png", "a.jpg", "C.PNG", "notes.txt"):
        (tmp_path / "views" / name).write_bytes(name.encode())
    return tmp_path


def test_command_writes_a_mesh(server, views):
    flags = f"--url={server.url} --images=views/b.png,views/a.jpg --out=new/chair.glb"
    occupied = grid_of([b"b.png", b"a.jpg"])
    expected = f"{occupied.sum():,} of 32,768 voxels are occupied. Wrote new/chair.glb\n"
    assert _run(views, flags) == expected
    assert (views / "new" / "chair.glb").read_bytes() == client.glb(occupied)


def test_command_takes_a_folder_one_by_one(server, views):
    _run(views, f"--url={server.url} --label=stable --one_by_one --images=views --out=a.binvox")
    expected = grid_of([b"C.PNG", b"a.jpg", b"b.png"])
    np.testing.assert_array_equal(r2n2_keras.binvox.read(views / "a.binvox").data, expected)
    assert [path for path, _ in server.requests] == ["/v1/models/r2n2/labels/stable:predict"] * 3


def test_command_explains_itself_with_the_standard_library_and_numpy_alone():
    code = f"""
import runpy, sys
class Others:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] not in {{"numpy", *sys.stdlib_module_names}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Others)
sys.argv = ["client.py", "--help"]
runpy.run_path({str(EXPORT / "client.py")!r}, run_name="__main__")
"""
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "chair.glb" in result.stdout and "--one_by_one" in result.stdout


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("", "--images"),
        ("--images=views --out=a.obj", "a.obj"),
        ("--images=views --out=a.glb --colour=red", "--colour"),
        ("--images=views --out=a.glb --version=new", "new"),
        ("--images=views --out=a.glb --version=1 --label=stable", "--label"),
        ("--images=views --out=a.glb --url=localhost:8501", "http://localhost:8501"),
        ("--images=views --out=a.glb --url=http://127.0.0.1:9 --retries=0", "No answer from 127"),
        ("--images=views --out=a.glb --model=other --url=URL", "Servable not found"),
        ("--images=absent.png --out=a.glb --url=URL", "absent.png"),
        ("--images=empty --out=a.glb --url=URL", "empty"),
        ("--images=views/b.png --out=views.npy --url=URL", "received the folder views.npy"),
    ],
)
def test_command_says_in_one_line_what_is_wrong(server, views, flags, text, monkeypatch, capsys):
    (views / "empty").mkdir()
    (views / "views.npy").mkdir()
    monkeypatch.setattr(sys, "argv", ["client.py", *flags.replace("URL", server.url).split()])
    monkeypatch.chdir(views)
    assert client.main() == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert text in err
    assert sorted(path.name for path in views.iterdir()) == ["empty", "views", "views.npy"]


@pytest.mark.skipif(not shutil.which("bash"), reason="the health check is a script of bash")
@pytest.mark.parametrize(
    ("state", "code"), [("AVAILABLE", 0), ("LOADING", 1), ("END", 1), ("refused", 1)]
)
def test_the_health_check_of_the_container_tells_an_available_version(server, state, code):
    server.script = [status_of(state)]
    compose = (EXPORT / "compose.yaml").read_text()
    script = " ".join(re.search(r"- -c\n +- >-\n((?: {8}.*\n)+)", compose)[1].split())
    assert "/127.0.0.1/8501 " in script
    # Nobody listens to port 9, `discard`.
    port = 9 if state == "refused" else server.server_port
    script = script.replace("/8501", f"/{port}")
    result = subprocess.run(["bash", "-c", script], capture_output=True, timeout=60)
    assert result.returncode == code
    assert server.requests == ([] if state == "refused" else [("/v1/models/r2n2", None)])
