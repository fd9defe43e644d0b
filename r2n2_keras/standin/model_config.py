"""The text files that TensorFlow Serving is configured by: models.config, monitoring.config."""

import dataclasses
import os
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

from r2n2_keras.errors import InputError, reading

_METRICS_PATH = "/monitoring/prometheus/metrics"
# The messages of monitoring.config, which no package brings.
_MONITORING = """
  name: "monitoring_config.proto" syntax: "proto3"
  message_type { name: "PrometheusConfig"
    field { name: "enable" number: 1 type: TYPE_BOOL label: LABEL_OPTIONAL }
    field { name: "path" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
  message_type { name: "MonitoringConfig"
    field { name: "prometheus_config" number: 1 type: TYPE_MESSAGE label: LABEL_OPTIONAL
            type_name: ".PrometheusConfig" } }
"""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What is to be served under one name, as in URLs."""

    name: str
    base_path: str  # folder of the version folders
    latest: int | None = 1  # how many of the newest versions; None: as `versions` says
    versions: tuple[int, ...] | None = None  # with `latest` None: which; None: all
    labels: dict[str, int] = dataclasses.field(default_factory=dict)  # version of each label


def read_models(path: str) -> list[ModelConfig]:
    """The models of a models.config, none of an empty list; InputError if not to be served."""
    config = _read(path, model_server_config_pb2.ModelServerConfig())
    if config.WhichOneof("config") != "model_config_list":  # as while an editor writes the file
        raise _unusable(path, "a model_config_list", "none")
    models = [_model(path, model) for model in config.model_config_list.config]
    names = [model.name for model in models]
    if twice := {name for name in names if names.count(name) > 1}:
        raise _unusable(path, "each model once", f"{twice.pop()} twice")
    return models


def _model(path, model):
    if not model.name:
        raise _unusable(path, "a name for each model", "one without")
    if not os.path.isabs(model.base_path):
        raise _unusable(path, "absolute paths as base_path", repr(model.base_path))
    if model.model_platform != "tensorflow":
        raise _unusable(path, 'model_platform: "tensorflow"', repr(model.model_platform))
    latest, versions = 1, None
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "latest":
        latest = policy.latest.num_versions or 1
    elif choice:
        latest = None
    if choice == "specific":
        versions = tuple(policy.specific.versions)
        if not versions:
            raise _unusable(path, "versions in a specific policy", "none")
    return ModelConfig(model.name, model.base_path, latest, versions, dict(model.version_labels))


def read_metrics_path(path: str) -> str:
    """The Prometheus page's path, empty where it is switched off; InputError if unreadable."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_MONITORING, descriptor_pb2.FileDescriptorProto()))
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("MonitoringConfig"))
    prometheus = _read(path, kind()).prometheus_config
    page = (prometheus.path or _METRICS_PATH) if prometheus.enable else ""
    if page and not page.startswith("/"):
        raise _unusable(path, "a path that begins with /", repr(page))
    return page


def _read(path, message):
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise _unusable(path, "a text file", "what is none")
    with reading("a file of TensorFlow Serving's", path, "Check the path."):
        text = Path(path).read_text("utf-8")
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        problem = f"what does not parse: {' '.join(str(error).split())}"
        raise _unusable(path, f"a {type(message).__name__}", problem) from None


def _unusable(path, expected, received):
    return InputError(f"Expected {expected} in {path}, received {received}. Mend it.")
