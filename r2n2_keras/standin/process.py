"""The server as a process: starts it, tells what it serves, and ends it in order."""

import asyncio
import dataclasses
import functools
import gc
import importlib.metadata
import os
import shlex
import signal
import sys

import tensorflow as tf

from r2n2_keras.errors import InputError
from r2n2_keras.standin import http_server, model_config, monitoring, rest, versions


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `process.run` is given, by the names of TensorFlow Serving's flags where it has them."""

    model_config_file: str = ""  # what is served; empty: the versions of one model, as follows
    model_name: str = ""  # as in URLs
    base_path: str = ""  # folder of the version folders
    file_system_poll_wait_seconds: float = 1  # how often to look for new versions
    model_config_file_poll_wait_seconds: float = 0  # how often to read the file again; 0: never
    monitoring_config_file: str = ""  # switches the Prometheus page on; empty: there is none
    rest_api_host: str = "127.0.0.1"  # address to listen on
    rest_api_port: int = 8501  # 0 picks a free one
    rest_api_enable_cors_support: bool = False  # let pages of other origins ask
    rest_api_timeout_in_ms: float = 30_000  # longest time of a request, its arrival included
    rest_api_max_body: int = 64 * 2**20  # bytes
    rest_api_max_requests: int = 64  # how many may be in work or wait
    rest_api_num_threads: int = 0  # how many are in work at once; 0: as many as there are cores


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT comes and the requests in work are answered; then exits.

    Raises:
        InputError: a file cannot be read, a version not be served, or the port is taken.
    """
    tf.get_logger().setLevel("ERROR")  # that the graph-mode loader is an old one
    # Threads that work in Python would keep the one that listens waiting five times as long.
    sys.setswitchinterval(0.001)
    configs = read_configs(settings)
    if not configs:
        raise InputError(f"Expected models in {settings.model_config_file}, received none.")
    metrics_path = ""
    if settings.monitoring_config_file:
        metrics_path = model_config.read_metrics_path(settings.monitoring_config_file)
    monitor = monitoring.Monitor()
    models = versions.Models(configs, settings, monitor, _say)
    server = http_server.Server(rest.Api(models, monitor, _say), monitor, settings, metrics_path)
    # What is here stays; looking through it for garbage would make requests wait.
    gc.collect()
    gc.freeze()
    available = models.start(lambda: read_configs(settings))
    asyncio.run(_serve(server, settings, lambda url: _greeting(configs, available, url)))
    # Whatever still computes has been answered for, cannot be told to stop and writes nothing.
    sys.stdout.flush()
    os._exit(0)


def read_configs(settings: Settings) -> list[model_config.ModelConfig]:
    """What is to be served; raises InputError where models.config cannot be read or served."""
    if settings.model_config_file:
        return model_config.read_models(settings.model_config_file)
    return [model_config.ModelConfig(settings.model_name, settings.base_path)]


async def _serve(server, settings, greeting):
    loop = asyncio.get_running_loop()
    say_once = functools.lru_cache(_say)  # of many connections that fail alike
    loop.set_exception_handler(lambda _, what: say_once(f"A connection failed: {what['message']}"))
    host, port = settings.rest_api_host, settings.rest_api_port
    try:
        port = await server.start(host, port)
    except OSError as error:
        raise InputError(
            f"Expected to listen on {host}:{port}, received: {error.strerror or error}. Give "
            "another --rest_api_port (0 picks a free one) or --rest_api_host."
        ) from None
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    _say(greeting(f"http://{f'[{host}]' if ':' in host else host}:{port}"))
    await ended.wait()
    await server.stop()


def _greeting(configs, available, url):
    listed = ", ".join(
        f"{name} (version{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))})"
        for name, numbers in available.items()
    )
    name, folder = configs[0].name, configs[0].base_path
    mount, variable = shlex.quote(f"{folder}:/models/{name}"), shlex.quote(f"MODEL_NAME={name}")
    release = importlib.metadata.version("tensorflow-serving-api")  # the server's too
    return (
        f"Serving {listed} on {url}. This is a stand-in for development and tests; in production "
        f"run: docker run -p 8501:8501 -v {mount} -e {variable} tensorflow/serving:{release}"
    )


def _say(line):
    try:
        print(line, flush=True)
    except OSError:  # whoever read the output is gone; those who ask are not
        pass
