"""Serves exported models over HTTP, as TensorFlow Serving does: a stand-in for development.

    python -m r2n2_keras.serve --workdir=runs/quickstart
    python -m r2n2_keras.serve --export_dir=models/r2n2 --rest_api_port=0
    python -m r2n2_keras.serve --model_config_file=FILE --model_config_file_poll_wait_seconds=5

Answers /v1/models/<model_name>:predict and what else TensorFlow Serving's REST API has, with its
status codes and messages, so that clients can be written and tested without Docker. New versions in
--export_dir (<workdir>/exports unless given) are loaded while the old ones answer.

It is no replacement: it has no gRPC and no batching, is slower under load, and answers what is no
HTTP in plain text. In production run

    docker run -p 8501:8501 -v DIR:/models/NAME -e MODEL_NAME=NAME tensorflow/serving:RELEASE

Needs the extra `serve`. Ctrl+C or SIGTERM ends it when the requests in work are answered.
"""

import os

from r2n2_keras import command

# Threads that work in Python would otherwise keep the one that listens waiting five times as long.
_SWITCH_SECONDS = 0.001
_TELL_SECONDS = 60


def main(config):
    """Serves as `config` says."""
    import importlib
    import sys

    from r2n2_keras.errors import InputError

    try:
        for name in ("aiohttp", "prometheus_client", "rapidjson"):
            importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"Expected the packages of the extra `serve`, received none called {error.name}. Run: "
            'pip install "r2n2-keras[serve]"'
        ) from None

    import asyncio

    import tensorflow as tf

    from r2n2_keras.serving.rest import model_config

    tf.get_logger().setLevel("ERROR")  # that the graph-mode loader is an old one
    sys.setswitchinterval(_SWITCH_SECONDS)
    _run_a_graph()
    configs = _configs(config)
    metrics_path = ""
    if config.monitoring_config_file:
        metrics_path = model_config.read_metrics_path(config.monitoring_config_file)
    asyncio.run(_serve(config, configs, metrics_path))
    # Whatever still computes has been answered for, cannot be told to stop and writes nothing.
    sys.stdout.flush()
    os._exit(0)


def _run_a_graph():
    """Lets TensorFlow say, unheard, what it says at the first run whatever its log level."""
    import tensorflow as tf

    from r2n2_keras.quiet import quiet_libraries

    with quiet_libraries(), tf.Graph().as_default(), tf.compat.v1.Session() as session:
        session.run(tf.constant(0))


def _configs(config):
    from r2n2_keras import runs
    from r2n2_keras.errors import InputError
    from r2n2_keras.serving.rest import model_config

    if config.model_config_file:
        return model_config.read_models(config.model_config_file)
    if not (config.export_dir or config.workdir):
        raise InputError(
            "Expected --export_dir=DIR of exported versions, --workdir=DIR of a run that was "
            "exported, or --model_config_file=FILE, received none. Give one."
        )
    folder = os.path.abspath(runs.output_dir(config, "export_dir", "exports"))
    return [model_config.ModelConfig(config.model_name, folder)]


async def _serve(config, configs, metrics_path):
    import asyncio
    import gc
    import signal

    from r2n2_keras.serving.rest import api, model_config, monitoring, server, versions

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    monitor = monitoring.Monitor()
    models = versions.Models(
        configs,
        timeout_in_ms=config.rest_api_timeout_in_ms,
        poll_seconds=config.file_system_poll_wait_seconds,
        monitor=monitor,
        say=_say,
        read_configs=lambda: model_config.read_models(config.model_config_file),
        config_poll_seconds=(
            config.model_config_file_poll_wait_seconds if config.model_config_file else 0
        ),
    )
    rest = server.Server(
        api.Api(models, monitor, _say),
        monitor,
        timeout_in_ms=config.rest_api_timeout_in_ms,
        max_body=config.rest_api_max_body_mib * 2**20,
        max_requests=config.rest_api_max_requests,
        metrics_path=metrics_path,
        cors=config.rest_api_enable_cors_support,
    )
    # What is here stays; looking through it for garbage would make requests wait.
    gc.collect()
    gc.freeze()
    available = models.start()
    loop.set_exception_handler(_Rarely().tell)
    port = await _listen(rest, config)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    _say(_greeting(config, configs, available, port))
    try:
        await ended.wait()
    finally:
        await rest.stop()


async def _listen(rest, config):
    from r2n2_keras.errors import InputError

    try:
        return await rest.start(config.rest_api_host, config.rest_api_port)
    except OSError as error:
        raise InputError(
            f"Expected to listen on {config.rest_api_host}:{config.rest_api_port}, received: "
            f"{error.strerror or error}. Give another --rest_api_port (0 picks a free one) or "
            "--rest_api_host."
        ) from None


def _greeting(config, configs, available, port):
    import importlib.metadata
    import shlex

    host = f"[{config.rest_api_host}]" if ":" in config.rest_api_host else config.rest_api_host
    listed = ", ".join(
        f"{name} (version{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))})"
        for name, numbers in available.items()
    )
    name, folder = configs[0].name, configs[0].base_path
    mount, variable = shlex.quote(f"{folder}:/models/{name}"), shlex.quote(f"MODEL_NAME={name}")
    release = importlib.metadata.version("tensorflow-serving-api")  # the server's too
    return (
        f"Serving {listed} on http://{host}:{port}. This is a stand-in for development and tests; "
        f"in production run: docker run -p 8501:8501 -v {mount} "
        f"-e {variable} tensorflow/serving:{release}"
    )


class _Rarely:
    """Tells of connections that fail, and of many that fail alike once a minute."""

    def __init__(self):
        self._told = {}

    def tell(self, loop, context):
        """Handles what asyncio has nobody else to tell."""
        message = context["message"]
        if loop.time() - self._told.get(message, float("-inf")) > _TELL_SECONDS:
            self._told = {message: loop.time()}
            _say(f"A connection failed: {message}")


def _say(line):
    try:
        print(line, flush=True)
    except OSError:  # whoever read the output is gone; those who ask are not
        pass


if __name__ == "__main__":
    command.run(main, __doc__, "serve")
