"""The server as a process: starts it, tells what it serves, and ends it in order."""

import asyncio
import gc
import os
import shlex
import signal
import sys

import tensorflow as tf

from r2n2_keras.errors import InputError
from r2n2_keras.standin import http_server, model_config, monitoring, rest, versions
from r2n2_keras.standin.settings import Settings

# Threads that work in Python would otherwise keep the one that listens waiting five times as long.
_SWITCH_SECONDS = 0.001


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT comes and the requests in work are answered; then exits.

    Raises:
        InputError: a file cannot be read, a version not be served, or the port is taken.
    """
    tf.get_logger().setLevel("ERROR")  # that the graph-mode loader is an old one
    sys.setswitchinterval(_SWITCH_SECONDS)
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
    """What is to be served.

    Raises:
        InputError: models.config cannot be read or served.
    """
    if settings.model_config_file:
        return model_config.read_models(settings.model_config_file)
    return [model_config.ModelConfig(settings.model_name, settings.base_path)]


async def _serve(server, settings, greeting):
    loop = asyncio.get_running_loop()
    told = set()

    def tell(loop, context):
        """Tells of connections that fail, of many that fail alike once."""
        if context["message"] not in told and len(told) < 100:
            told.add(context["message"])
            _say(f"A connection failed: {context['message']}")

    loop.set_exception_handler(tell)
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
    return (
        f"Serving {listed} on {url}. This is a stand-in for development and tests; in production "
        f"run: docker run -p 8501:8501 -v {mount} -e {variable} tensorflow/serving:2.20.0"
    )


def _say(line):
    try:
        print(line, flush=True)
    except OSError:  # whoever read the output is gone; those who ask are not
        pass
