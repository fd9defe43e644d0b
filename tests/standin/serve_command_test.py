"""The `serve` command: how it starts, what it refuses in one line, how it ends."""

import concurrent.futures
import importlib.metadata
import signal
import socket
import subprocess
import sys
import time

import pytest
import standin_models
import standin_server
from commands import fail


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    standin_models.write(folder / "1", "default")
    standin_models.write(folder / "slow" / "1", "slow")
    return folder


def test_it_says_what_it_serves_and_ends_after_the_requests_in_work(folder, tmp_path):
    path = standin_models.write_config(tmp_path, {"one": folder, "slow": folder / "slow"})
    flag = f"--model_config_file={path}"
    with standin_server.command(flag, stderr=subprocess.PIPE) as server:
        line, port = server.greeting, int(server.url.rpartition(":")[2])
        body = b'{"instances": [600000]}'
        with standin_server.connect(port), concurrent.futures.ThreadPoolExecutor() as pool:
            answer = pool.submit(standin_server.predict, port, body, "slow")
            time.sleep(0.3)  # a request leaves no trace before it ends
            server.process.send_signal(signal.SIGTERM)
            assert answer.result() == (200, {"predictions": [600000]})
        rest, errors = server.process.communicate(timeout=60)
    assert (server.process.returncode, rest, errors) == (0, "", "")
    assert line.startswith("Serving one (version 1), slow (version 1) on http://127.0.0.1:")
    assert "stand-in for development and tests" in line
    assert f"docker run -p 8501:8501 -v {folder}:/models/one -e MODEL_NAME=one" in line
    release = importlib.metadata.version("tensorflow-serving-api")
    assert line.endswith(f" tensorflow/serving:{release}\n")


def test_what_is_refused_in_one_line(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "setswitchinterval", lambda seconds: None)
    (tmp_path / "empty").mkdir()
    standin_models.write(tmp_path / "two" / "1", "default")
    (tmp_path / "two" / "2").mkdir()
    path = standin_models.write_config(tmp_path, {"m": tmp_path / "two"}, policies={"m": "all { }"})
    (tmp_path / "broken.config").write_text("model_config_list {")
    (tmp_path / "nothing.config").write_text("model_config_list { }")
    for flag, message in (
        (f"--export_dir={tmp_path}/empty", "received none that is to be served"),
        (f"--export_dir={tmp_path}/missing", "received No such file"),
        (f"--model_config_file={path}", "received version 2: Could not find a SavedModel"),
        (f"--model_config_file={tmp_path}/broken.config", "does not parse"),
        (f"--model_config_file={tmp_path}/missing.config", "No such file"),
        (f"--model_config_file={tmp_path}/nothing.config", "Expected models in"),
        (f"--workdir={tmp_path}", "/exports, received No such file"),
        ("--model_name=m", "--export_dir=DIR of exported versions"),
    ):
        assert message in fail("serve", flag, cwd=tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = fail("serve", f"--export_dir={folder}", f"--rest_api_port={port}", cwd=tmp_path)
    assert f"127.0.0.1:{port}" in line and "--rest_api_port" in line


def test_the_missing_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidjson", None)
    assert 'pip install "r2n2-keras[serve]"' in fail("serve", cwd=tmp_path)
