"""Serves exported models over HTTP, as TensorFlow Serving does: a stand-in for development.

    python -m r2n2_keras.serve --workdir=runs/quickstart
    python -m r2n2_keras.serve --export_dir=models/r2n2 --rest_api_port=0
    python -m r2n2_keras.serve --model_config_file=FILE --model_config_file_poll_wait_seconds=5

Answers /v1/models/<model_name>:predict and the status and metadata URLs of TensorFlow Serving's
REST API with its status codes, so that clients can be written and tested without Docker. New
versions in --export_dir (<workdir>/exports unless given) are loaded while the old ones answer.

It is no replacement: it has no gRPC and no batching, is slower under load, and its error texts are
its own. In production run

    docker run -p 8501:8501 -v DIR:/models/NAME -e MODEL_NAME=NAME tensorflow/serving:RELEASE

Needs the extra `serve`. Ctrl+C or SIGTERM ends it when the requests in work are answered.
"""

import dataclasses
import os

from r2n2_keras import command


def main(config):
    from r2n2_keras import runs
    from r2n2_keras.errors import InputError, import_extra

    for name in ("aiohttp", "prometheus_client", "rapidjson"):
        import_extra(name, "serve")
    if not (config.model_config_file or config.export_dir or config.workdir):
        raise InputError(
            "Expected --export_dir=DIR of exported versions, --workdir=DIR of a run that was "
            "exported, or --model_config_file=FILE, received none. Give one."
        )
    folder = ""
    if not config.model_config_file:
        folder = os.path.abspath(runs.output_dir(config, "export_dir", "exports"))

    from r2n2_keras.standin import process

    named = {field.name for field in dataclasses.fields(process.Settings)}
    flags = {name: value for name, value in vars(config).items() if name in named}
    max_body = config.rest_api_max_body_mib * 2**20
    process.run(process.Settings(**flags, base_path=folder, rest_api_max_body=max_body))


if __name__ == "__main__":
    command.run(main, __doc__, "serve")
