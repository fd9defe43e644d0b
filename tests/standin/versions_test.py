"""Versions that come, go and fail, labels, and a models.config that changes, under load."""

import concurrent.futures
import contextlib
import json
import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import standin_models
import standin_server
import tensorflow as tf
from standin_server import ask, predict, states, until

from r2n2_keras.errors import InputError
from r2n2_keras.serving import warmup
from r2n2_keras.standin import folders, model_config

ONE = b'{"instances": [0.0]}'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Versions 1 to 3, each of which answers its number."""
    folder = tmp_path_factory.mktemp("made")
    for number in (1, 2, 3):
        standin_models.constant(folder / str(number), number)
    return folder


def _put(made, number, folder, spoil=lambda version: None):
    """Has a version appear whole."""
    part = Path(folder, "part")
    shutil.copytree(made / str(number), part)
    spoil(part)
    os.rename(part, Path(folder, str(number)))


def _answer(port, path="m"):
    status, answer = predict(port, ONE, path)
    assert status == 200, answer
    return answer["predictions"][0]


@contextlib.contextmanager
def _load(port, clients=3):
    """Clients that ask until the block ends, and must never be refused; gives what they got."""
    answers, ended = set(), threading.Event()

    def work():
        while not ended.is_set():
            answers.add(_answer(port))

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(work) for _ in range(clients)]
        try:
            yield answers
        finally:
            ended.set()
    for one in asking:
        one.result()


def test_a_new_version_under_load_and_back(made, tmp_path):
    _put(made, 1, tmp_path)
    with standin_server.running(tmp_path) as server:
        with _load(server.port) as answers:
            until(lambda: answers == {1.0})
            _put(made, 2, tmp_path)
            until(lambda: states(server.port) == {2: "AVAILABLE", 1: "END"})
            assert _answer(server.port) == 2
            message = "Servable not found for request: Specific(m, 1)"
            assert predict(server.port, ONE, "m/versions/1") == (404, {"error": message})
            shutil.rmtree(tmp_path / "2")
            until(lambda: states(server.port) == {2: "END", 1: "AVAILABLE"})
            assert _answer(server.port) == 1
        assert answers == {1.0, 2.0}


def _warm_up(version, inputs, signature="", record=None, cut=0):
    """Writes a warm-up request, or another record, and cuts some bytes off its file."""
    path = version / "assets.extra" / warmup.FILE
    path.parent.mkdir()
    warmup.write(str(version), [(signature, inputs)])
    if record:
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(record)
    os.truncate(path, path.stat().st_size - cut)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda version: (version / "saved_model.pb").write_bytes(b"no model"),
        lambda version: shutil.rmtree(version) or version.mkdir(),
        lambda version: _warm_up(version, {}, record=b"\xff\xff\xff"),
        lambda version: _warm_up(version, {"x": [1.0]}, cut=3),
        lambda version: _warm_up(version, {"z": [1.0]}),
        lambda version: _warm_up(version, {"x": [1.0]}, signature="none"),
        lambda version: _warm_up(version, {"x": ["a"]}),
    ],
    ids=["broken", "empty", "garbage", "damaged", "inputs", "signature", "dtype"],
)
def test_a_version_that_fails_leaves_the_old_one(made, tmp_path, spoil):
    _put(made, 1, tmp_path)
    with standin_server.running(tmp_path) as server:
        _put(made, 2, tmp_path, spoil=spoil)
        until(lambda: states(server.port) == {2: "END", 1: "AVAILABLE"})
        _, _, content = ask(server.port, "GET", "/v1/models/m/versions/2")
        status = json.loads(content)["model_version_status"][0]["status"]
        assert status["error_code"] != "OK" and status["error_message"]
        assert _answer(server.port) == 1
        time.sleep(0.2)  # several looks, none of which tries it again
        assert len([line for line in server.said if "cannot be served" in line]) == 1
        # Once its files are whole, it is.
        shutil.rmtree(tmp_path / "2")
        _put(made, 2, tmp_path)
        until(lambda: states(server.port) == {2: "AVAILABLE", 1: "END"})


def test_warm_up_is_run_before_a_version_answers(made, tmp_path):
    _put(made, 1, tmp_path, spoil=lambda version: _warm_up(version, {"x": [1.0, 2.0]}))
    with standin_server.running(tmp_path) as server:
        page = ask(server.port, "GET", "/metrics")[2].decode()
        name = ':tensorflow:serving:runtime_latency_count{API="Predict",model_name="m"'
        assert f'{name},runtime="TF1"}} 1.0\n' in page


@pytest.mark.parametrize(
    "policy, expected",
    [
        ("", {3}),
        ("latest { num_versions: 2 }", {2, 3}),
        ("all { }", {1, 2, 3}),
        ("specific { versions: 1 versions: 3 versions: 9 }", {1, 3}),
    ],
)
def test_policies(made, tmp_path, policy, expected):
    path = standin_models.write_config(tmp_path, {"m": made}, policies={"m": policy})
    with standin_server.running(path) as server:
        assert states(server.port) == dict.fromkeys(expected, "AVAILABLE")
        assert _answer(server.port) == max(expected)
        assert _answer(server.port, f"m/versions/{min(expected)}") == min(expected)


def test_versions_are_closed_after_their_last_request(made, tmp_path):
    _put(made, 1, tmp_path)
    with standin_server.running(tmp_path) as server:
        with server.models.use("m", None, None) as servable:
            _put(made, 2, tmp_path)
            until(lambda: states(server.port) == {2: "AVAILABLE", 1: "UNLOADING"})
            answer = servable.signature("").run({"x": np.float32([1])})
            np.testing.assert_array_equal(answer["y"], [1])
        until(lambda: states(server.port)[1] == "END")


def test_labels_and_a_config_that_changes(made, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for number, folder in ((1, one), (2, one), (3, other)):
        folder.mkdir(exist_ok=True)
        _put(made, number, folder)

    def write(models, numbers, **labels):
        versions = " ".join(f"versions: {number}" for number in numbers)
        policies = {"m": f"specific {{ {versions} }}"}
        return standin_models.write_config(tmp_path, models, {"m": labels}, policies)

    path, both = write({"m": one}, [1], stable=1, canary=9), {"m": one, "second": other}
    with standin_server.running(path) as server:

        def stable():
            return _answer(server.port, "m/labels/stable")

        with _load(server.port, 2):
            assert stable() == 1
            # A label that is allowed, but whose version is missing.
            message = "Servable not found for request: Specific(m, 9)"
            assert predict(server.port, ONE, "m/labels/canary") == (404, {"error": message})
            message = "Unrecognized servable version label: other"
            assert predict(server.port, ONE, "m/labels/other") == (400, {"error": message})
            # One in use cannot be moved to what is not loaded, nor is that loaded by such a change.
            write(both, [1, 2], stable=2)
            until(lambda: any("label stable of m" in line for line in server.said))
            server.models._read(lambda: model_config.read_models(str(path)))
            assert len(server.said) == 1
            assert states(server.port) == {1: "AVAILABLE"}
            assert not server.models.knows("second")
            assert stable() == 1
            # First the version, then the label.
            write(both, [1, 2], stable=1)
            until(lambda: states(server.port) == {2: "AVAILABLE", 1: "AVAILABLE"})
            assert stable() == 1
            write(both, [1, 2], stable=2)
            until(lambda: stable() == 2)
            until(lambda: _answer(server.port, "second") == 3)
            # What does not parse, or is empty, changes nothing; what is left out ends.
            for text in ("model_config_list {", ""):
                server.said.clear()
                path.write_text(text)
                until(lambda: any("stay as they are" in line for line in server.said))
                assert _answer(server.port) == 2
            write({"m": one}, [2], stable=2)
            until(lambda: states(server.port, "second") == {3: "END"})
            until(lambda: states(server.port) == {2: "AVAILABLE", 1: "END"})
            message = "Servable not found for request: Latest(second)"
            assert predict(server.port, ONE, "second") == (404, {"error": message})
        path.write_text("model_config_list { }")
        until(lambda: states(server.port) == {2: "END", 1: "END"})


def test_a_folder_that_cannot_be_read_for_a_while(made, tmp_path):
    base = tmp_path / "m"
    base.mkdir()
    _put(made, 1, base)
    with standin_server.running(base) as server:
        os.rename(base, tmp_path / "away")
        until(lambda: any("No such file" in line for line in server.said))
        assert states(server.port) == {1: "AVAILABLE"}
        assert _answer(server.port) == 1


def test_names_of_version_folders(tmp_path):
    names = ["1", "01", "00000123", "0", str(2**63 - 1)]
    names += ["", "a", "1a", "-1", "+3", "1.0", "partial-1", "٣", str(2**63), "9" * 200]
    for name in names:
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "5").write_text("a file")
    found = folders.find(SimpleNamespace(base_path=str(tmp_path), versions=None, latest=None))
    expected = {0: "0", 1: "01", 123: "00000123", 2**63 - 1: str(2**63 - 1)}
    assert {number: Path(one).name for number, one in found.items()} == expected


SERVED = 'name: "a" base_path: "/a" model_platform: "tensorflow"'
LIST = "model_config_list { config { %s } }"


@pytest.mark.parametrize(
    "text, message",
    [
        ("model_config_list {", "does not parse"),
        ("nonsense: 1", "does not parse"),
        ("", "a model_config_list"),
        ("custom_model_config { }", "a model_config_list"),
        (LIST % 'base_path: "/a"', "a name for each"),
        (LIST % 'name: "a" base_path: "a"', "absolute"),
        (LIST % 'name: "a" base_path: "/a"', "model_platform"),
        (LIST % f"{SERVED} model_version_policy {{ specific {{ }} }}", "in a specific policy"),
        (LIST % f"{SERVED} }} config {{ {SERVED}", "a twice"),
    ],
)
def test_a_config_that_cannot_be_served(tmp_path, text, message):
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        model_config.read_models(str(path))


def test_monitoring_config(tmp_path):
    path = tmp_path / "monitoring.config"
    for text, expected in (
        ("", ""),
        ("prometheus_config { enable: false }", ""),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true, path: "/m" }', "/m"),
    ):
        path.write_text(text)
        assert model_config.read_metrics_path(str(path)) == expected
    for text, message in (
        ("prometheus_config { enabled: true }", "does not parse"),
        ("prometheus_config { enable: 7 }", "does not parse"),
        ("{", "does not parse"),
        ('prometheus_config { enable: true, path: "m" }', "a path that begins with /"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            model_config.read_metrics_path(str(path))
