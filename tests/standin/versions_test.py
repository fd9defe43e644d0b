"""Versions that come, go and fail, labels, and a models.config that changes, under load."""

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import rest_models
import rest_server
from rest_server import ask, error, predict, states, until

from r2n2_keras.errors import InputError
from r2n2_keras.serving.rest import folders, model_config
from r2n2_keras.serving.rest.model_config import ModelConfig

ONE = b'{"instances": [0.0]}'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Versions 1 to 3, each of which answers its number."""
    folder = tmp_path_factory.mktemp("made")
    for number in (1, 2, 3):
        rest_models.constant(folder / str(number), number)
    return folder


def _put(made, number, folder, name=None, spoil=lambda version: None):
    """Has a version appear whole."""
    Path(folder).mkdir(exist_ok=True)
    part = Path(folder, "part")
    shutil.copytree(made / str(number), part)
    spoil(part)
    os.rename(part, Path(folder, name or str(number)))


def _answer(port, path="m"):
    status, _, content = ask(port, "POST", f"/v1/models/{path}:predict", ONE)
    assert status == 200, content
    return json.loads(content)["predictions"][0]


class _Load:
    """Clients that ask until the block ends, and must never be refused."""

    def __init__(self, port, clients=3):
        self.port, self.answers, self.problems, self.ended = port, set(), [], False
        self.threads = [threading.Thread(target=self._work) for _ in range(clients)]

    def _work(self):
        while not self.ended:
            try:
                self.answers.add(_answer(self.port))
            except BaseException as problem:
                self.problems.append(problem)
                return

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        for thread in self.threads:
            thread.join()


def test_a_new_version_under_load_and_back(made, tmp_path):
    _put(made, 1, tmp_path)
    with rest_server.running(tmp_path) as server, _Load(server.port) as load:
        until(lambda: load.answers == {1.0})
        _put(made, 2, tmp_path)
        until(lambda: states(server.port) == {2: "AVAILABLE", 1: "END"})
        assert _answer(server.port) == 2
        assert error_of(server.port, "m/versions/1") == (
            404,
            "Servable not found for request: Specific(m, 1)",
        )
        shutil.rmtree(tmp_path / "2")
        until(lambda: states(server.port) == {2: "END", 1: "AVAILABLE"})
        assert _answer(server.port) == 1
        load.__exit__()
        assert not load.problems
        assert load.answers == {1.0, 2.0}


def error_of(port, path):
    status, _, content = ask(port, "POST", f"/v1/models/{path}:predict", ONE)
    return status, json.loads(content)["error"]


def _broken(version):
    (version / "saved_model.pb").write_bytes(b"no model")


def _empty(version):
    shutil.rmtree(version)
    version.mkdir()


def _damaged_warmup(version):
    rest_models.write_warmup(version, {"x": [1.0]})
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
    "spoil",
    [
        _broken,
        _empty,
        lambda version: rest_models.write_warmup(version, garbage=b"\xff\xff\xff"),
        _damaged_warmup,
        lambda version: rest_models.write_warmup(version, {"z": [1.0]}),
        lambda version: rest_models.write_warmup(version, {"x": [1.0]}, signature="none"),
        lambda version: rest_models.write_warmup(version, {"x": ["a"]}),
    ],
    ids=["broken", "empty", "garbage", "damaged", "inputs", "signature", "dtype"],
)
def test_a_version_that_fails_leaves_the_old_one(made, tmp_path, spoil):
    _put(made, 1, tmp_path)
    with rest_server.running(tmp_path) as server:
        _put(made, 2, tmp_path, spoil=spoil)
        until(lambda: states(server.port) == {2: "END", 1: "AVAILABLE"})
        _, _, content = ask(server.port, "GET", "/v1/models/m/versions/2")
        status = json.loads(content)["model_version_status"][0]["status"]
        assert status["error_code"] != "OK"
        assert status["error_message"]
        assert _answer(server.port) == 1
        assert len([line for line in server.said if "cannot be served" in line]) == 1
        # Once its files are whole, it is.
        shutil.rmtree(tmp_path / "2")
        _put(made, 2, tmp_path)
        until(lambda: states(server.port) == {2: "AVAILABLE", 1: "END"})


def test_warm_up_is_run_before_a_version_answers(made, tmp_path):
    _put(made, 1, tmp_path, spoil=lambda v: rest_models.write_warmup(v, {"x": [1.0, 2.0]}))
    with rest_server.running(tmp_path, metrics_path="/metrics") as server:
        page = ask(server.port, "GET", "/metrics")[2].decode()
        assert ":tensorflow:serving:model_warmup_latency_count{" in page
        assert ":tensorflow:serving:runtime_latency_count{" in page


@pytest.mark.parametrize(
    "policy, expected",
    [
        ({}, {3}),
        ({"latest": 2}, {2, 3}),
        ({"latest": None}, {1, 2, 3}),
        ({"latest": None, "versions": (1, 3, 9)}, {1, 3}),
    ],
)
def test_policies(made, policy, expected):
    with rest_server.running([ModelConfig("m", str(made), **policy)]) as server:
        assert states(server.port) == dict.fromkeys(expected, "AVAILABLE")
        assert _answer(server.port) == max(expected)
        assert _answer(server.port, f"m/versions/{min(expected)}") == min(expected)


def test_versions_are_closed_after_their_last_request(made, tmp_path):
    _put(made, 1, tmp_path)
    with rest_server.running(tmp_path) as server:
        with server.models.use("m", None, None) as servable:
            _put(made, 2, tmp_path)
            until(lambda: states(server.port) == {2: "AVAILABLE", 1: "UNLOADING"})
            assert servable.signature("").run({"x": np.float32([1])})["y"] == [1]
        until(lambda: states(server.port)[1] == "END")


def test_labels_and_a_config_that_changes(made, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    _put(made, 1, one)
    _put(made, 3, other)

    def write(models, stable, labels=None):
        policy = {"m": " ".join(["specific {", *(f"versions: {n}" for n in stable), "}"])}
        return rest_models.write_config(tmp_path, models, {"m": labels or {}}, policy)

    path = write({"m": one}, [1], {"stable": 1})
    with (
        rest_server.running(
            model_config.read_models(path),
            read_configs=lambda: model_config.read_models(path),
            config_poll_seconds=0.05,
        ) as server,
        _Load(server.port, 2) as load,
    ):
        assert _answer(server.port, "m/labels/stable") == 1
        # A label of a version that is not there yet stays where it is.
        write({"m": one, "second": other}, [1, 2], {"stable": 2, "canary": 2})
        until(lambda: server.models.knows("second"))
        until(lambda: any("canary" in line for line in server.said))
        assert _answer(server.port, "m/labels/stable") == 1
        assert error_of(server.port, "m/labels/canary") == (
            400,
            "Unrecognized servable version label: canary",
        )
        _put(made, 2, one)
        until(lambda: states(server.port) == {2: "AVAILABLE", 1: "AVAILABLE"})
        until(lambda: _answer(server.port, "m/labels/stable") == 2)
        assert _answer(server.port, "m/labels/canary") == 2
        until(lambda: _answer(server.port, "second") == 3)
        # What does not parse changes nothing; what is left out ends.
        path.write_text("model_config_list {")
        until(lambda: any("stay as they are" in line for line in server.said))
        assert _answer(server.port) == 2
        write({"m": one}, [2], {"stable": 2})
        until(lambda: states(server.port, "second") == {3: "END"})
        until(lambda: states(server.port) == {2: "AVAILABLE", 1: "END"})
        assert error(server.port, ONE, "second") == (
            404,
            "Servable not found for request: Latest(second)",
        )
        load.__exit__()
        assert not load.problems


def test_a_folder_that_cannot_be_read_for_a_while(made, tmp_path):
    _put(made, 1, tmp_path / "m")
    with rest_server.running(tmp_path / "m") as server:
        os.rename(tmp_path / "m", tmp_path / "away")
        server.models._reconcile(server.models._models["m"])
        assert states(server.port) == {1: "AVAILABLE"}
        assert predict(server.port, ONE)[0] == 200
        until(lambda: any("No such file" in line for line in server.said))


def test_names_of_version_folders():
    numbers = {name: folders.version_number(name) for name in ("1", "00000123", " 7", "0", "+3")}
    assert numbers == {"1": 1, "00000123": 123, " 7": 7, "0": 0, "+3": 3}
    for name in ("", "a", "1a", "-1", "1.0", "partial-1", "٣", str(2**63), "9" * 5000):
        assert folders.version_number(name) is None


@pytest.mark.parametrize(
    "text, message",
    [
        ("model_config_list {", "does not parse"),
        ("nonsense: 1", "does not parse"),
        ("custom_model_config { }", "custom_model_config"),
        ('model_config_list { config { base_path: "/a" } }', "a name for each"),
        ('model_config_list { config { name: "a" base_path: "a" } }', "absolute"),
        ('model_config_list { config { name: "a" base_path: "/a" } }', "model_platform"),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" '
            "model_version_policy { specific { } } } }",
            "versions in a specific policy",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" } '
            'config { name: "a" base_path: "/b" model_platform: "tensorflow" } }',
            "a twice",
        ),
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
    for text in ("prometheus_config { enabled: true }", "prometheus_config { enable: 7 }", "{"):
        path.write_text(text)
        with pytest.raises(InputError, match="does not parse"):
            model_config.read_metrics_path(str(path))
