"""Runs the server, in a thread of the test's process or by the `serve` command, and asks it."""

import asyncio
import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import tensorflow as tf

from r2n2_keras.standin import http_server, monitoring, process, rest, versions

HOST = "127.0.0.1"


@contextlib.contextmanager
def running(source, metrics_path="/metrics", **flags):
    """A server on a free port until the block ends; gives `port`, `models`, `server` and `said`.

    `source` is a models.config, or a folder of a model called m; `flags` are without `rest_api_`.
    """
    tf.get_logger().setLevel("ERROR")
    named = {"max_body": 2**20, "max_requests": 16, **flags}
    settings = process.Settings(
        **{f"rest_api_{name}": value for name, value in named.items()},
        model_name="m",
        **{"model_config_file" if source.is_file() else "base_path": str(source)},
        file_system_poll_wait_seconds=0.05,
        model_config_file_poll_wait_seconds=0.05 if source.is_file() else 0,
    )
    said, monitor = [], monitoring.Monitor()
    models = versions.Models(process.read_configs(settings), settings, monitor, said.append)
    models.start(lambda: process.read_configs(settings))
    api = rest.Api(models, monitor, said.append)
    server = http_server.Server(api, monitor, settings, metrics_path)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: said.append(context["message"]))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    try:
        port = wait(server.start(HOST, 0))
        yield SimpleNamespace(port=port, models=models, said=said, server=server)
    finally:
        wait(server.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        models.stop()


@contextlib.contextmanager
def command(*flags, stderr=None):
    """The command on a free port until the block ends; gives `url`, `greeting` and `process`."""
    command = [sys.executable, "-m", "r2n2_keras.serve", "--rest_api_port=0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        for line in process.stdout:
            if found := re.search(r"http://[\d.]+:\d+", line):
                break
        else:
            raise AssertionError(f"the server ended with {process.wait()}")
        yield SimpleNamespace(url=found[0], greeting=line, process=process)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def ask(port, method, path, body=None, headers=None, host=HOST):
    """Status, headers and body of one exchange."""
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=60)) as connection:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def predict(port, body, model="m", headers=None):
    """Status and JSON of a predict request; `body` bytes, or what is to be made JSON."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, headers, content = ask(port, "POST", f"/v1/models/{model}:predict", body, headers)
    assert headers["Content-Type"] == "application/json"
    answer = json.loads(content)
    assert status == 200 or (answer.keys() == {"error"} and answer["error"])
    return status, answer


def states(port, model="m"):
    """State of each version, by its number."""
    _, _, content = ask(port, "GET", f"/v1/models/{model}")
    listed = json.loads(content)["model_version_status"]
    return {int(one["version"]): one["state"] for one in listed}


def connect(port):
    return socket.create_connection((HOST, port), timeout=30)


def read_all(connection):
    """What comes until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
