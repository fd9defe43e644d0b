"""Runs the server in a thread of the test's process, and asks it."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from types import SimpleNamespace

import tensorflow as tf

from r2n2_keras.serving.rest import api, model_config, monitoring, server, versions

HOST = "127.0.0.1"


@contextlib.contextmanager
def running(configs, *, read_configs=None, config_poll_seconds=0, poll_seconds=0.05, **flags):
    """A server on a free port until the block ends; gives `port`, `models` and `said`.

    `configs` are `ModelConfig`s, or a folder for a model called m.
    """
    tf.get_logger().setLevel("ERROR")
    if not isinstance(configs, list):
        configs = [model_config.ModelConfig("m", str(configs))]
    options = {"timeout_in_ms": 30_000, "max_body": 2**20, "max_requests": 16, **flags}
    said, monitor = [], monitoring.Monitor()
    models = versions.Models(
        configs,
        timeout_in_ms=options["timeout_in_ms"],
        poll_seconds=poll_seconds,
        monitor=monitor,
        say=said.append,
        read_configs=read_configs,
        config_poll_seconds=config_poll_seconds,
    )
    models.start()
    rest = server.Server(api.Api(models, monitor, said.append), monitor, **options)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: said.append(context["message"]))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    try:
        port = wait(rest.start(HOST, 0))
        yield SimpleNamespace(port=port, models=models, said=said, rest=rest)
    finally:
        wait(rest.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        models.stop()


def ask(port, method, path, body=None, headers=None):
    """Status, headers and body of one exchange."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def predict(port, body, model="m"):
    """Status and JSON of a predict request; `body` bytes, or what is to be made JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    status, headers, content = ask(port, "POST", f"/v1/models/{model}:predict", body)
    assert headers["Content-Type"] == "application/json"
    return status, json.loads(content)


def error(port, body, model="m"):
    """Status and message of a predict request that is refused."""
    status, answer = predict(port, body, model)
    assert answer.keys() == {"error"}, answer
    return status, answer["error"]


def states(port, model="m"):
    """State of each version, by its number."""
    _, _, content = ask(port, "GET", f"/v1/models/{model}")
    listed = json.loads(content)["model_version_status"]
    return {int(one["version"]): one["state"] for one in listed}


def connect(port):
    """A bare connection."""
    return socket.create_connection((HOST, port), timeout=30)


def read_all(connection):
    """What comes until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def until(condition, seconds=20):
    """Waits until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
