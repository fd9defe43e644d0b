"""The `serve` command: how it starts, what it refuses in one line, how it ends."""

import importlib.metadata
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import serve_process
import standin_models
import standin_server

from r2n2_keras import config, serve
from r2n2_keras.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    standin_models.half_plus(folder / "1")
    standin_models.slow(folder / "slow" / "1")
    return folder


def test_it_says_what_it_serves_and_ends_after_the_requests_in_work(folder, tmp_path):
    path = standin_models.write_config(tmp_path, {"one": folder, "slow": folder / "slow"})
    flag, answers = f"--model_config_file={path}", []
    with serve_process.running(flag, stderr=subprocess.PIPE) as server:
        line, port = server.greeting, int(server.url.rpartition(":")[2])
        body = b'{"instances": [600000]}'
        client = threading.Thread(
            target=lambda: answers.append(standin_server.predict(port, body, "slow"))
        )
        with standin_server.connect(port):  # one that asks nothing is not waited for
            client.start()
            time.sleep(0.3)  # a request leaves no trace before it ends
            server.process.send_signal(signal.SIGTERM)
            client.join()
        rest, errors = server.process.communicate(timeout=60)
    assert answers == [(200, {"predictions": [600000]})]
    assert (server.process.returncode, rest, errors) == (0, "", "")
    assert line.startswith("Serving one (version 1), slow (version 1) on http://127.0.0.1:")
    assert "stand-in for development and tests" in line
    assert f"docker run -p 8501:8501 -v {folder}:/models/one -e MODEL_NAME=one" in line
    release = importlib.metadata.version("tensorflow-serving-api")
    assert line.endswith(f" tensorflow/serving:{release}\n")


def _refused(*flags):
    interval = sys.getswitchinterval()
    try:
        with pytest.raises(InputError, match=r"\AExpected .*\Z") as error:
            serve.main(config.parse([*flags]))
    finally:
        sys.setswitchinterval(interval)
    return str(error.value)


def test_what_is_refused_in_one_line(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad" / "1").mkdir(parents=True)
    (tmp_path / "broken.config").write_text("model_config_list {")
    (tmp_path / "nothing.config").write_text("model_config_list { }")
    for flag, message in (
        (f"--export_dir={tmp_path}/empty", "received none that is to be served"),
        (f"--export_dir={tmp_path}/missing", "received No such file"),
        (f"--export_dir={tmp_path}/bad", "version 1: Could not find a SavedModel"),
        (f"--model_config_file={tmp_path}/broken.config", "does not parse"),
        (f"--model_config_file={tmp_path}/missing.config", "No such file"),
        (f"--model_config_file={tmp_path}/nothing.config", "Expected models in"),
        (f"--workdir={tmp_path}", "/exports, received No such file"),
        ("--model_name=m", "--export_dir=DIR of exported versions"),
    ):
        assert message in _refused(flag)


def test_a_port_that_is_taken(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = _refused(f"--export_dir={folder}", f"--rest_api_port={port}")
    assert f"127.0.0.1:{port}" in line and "--rest_api_port" in line


def test_the_missing_extra():
    code = (
        "import sys, runpy; sys.modules['rapidjson'] = None; "
        "sys.argv = ['serve']; runpy.run_module('r2n2_keras.serve', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1 and 'pip install "r2n2-keras[serve]"' in line
