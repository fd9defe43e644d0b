"""The text files that TensorFlow Serving is configured by: models.config, monitoring.config."""

import dataclasses
import os

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

from r2n2_keras.errors import InputError

_MOST_CHARACTERS = 2**20
METRICS_PATH = "/monitoring/prometheus/metrics"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What is to be served under one name.

    Attributes:
        name: the model's, as in URLs.
        base_path: folder of the version folders.
        latest: how many of the newest versions; None: as `versions` says.
        versions: which versions; None with `latest` None: all.
        labels: version of each label.
    """

    name: str
    base_path: str
    latest: int | None = 1
    versions: tuple[int, ...] | None = None
    labels: dict[str, int] = dataclasses.field(default_factory=dict)


def read_models(path: str) -> list[ModelConfig]:
    """The models of a models.config.

    Raises:
        InputError: it cannot be read or served.
    """
    config = _read(path, model_server_config_pb2.ModelServerConfig(), "models.config")
    if config.WhichOneof("config") == "custom_model_config":
        raise _unusable(path, "a model_config_list", "a custom_model_config")
    models = [_model(path, model) for model in config.model_config_list.config]
    if not models:  # as while an editor writes the file
        raise _unusable(path, "models", "none")
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise _unusable(path, "each model once", f"{name} twice")
    return models


def _model(path, model):
    if not model.name:
        raise _unusable(path, "a name for each model", "one without")
    if not os.path.isabs(model.base_path):
        raise _unusable(path, "absolute paths as base_path", repr(model.base_path))
    platform = model.model_platform
    if model.model_type == model_server_config_pb2.TENSORFLOW:
        platform = platform or "tensorflow"
    if platform != "tensorflow":
        raise _unusable(path, 'model_platform: "tensorflow"', repr(platform))
    latest, versions = 1, None
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "latest":
        latest = policy.latest.num_versions or 1
    elif choice == "specific":
        latest, versions = None, tuple(policy.specific.versions)
        if not versions:
            raise _unusable(path, "versions in a specific policy", "none")
    elif choice == "all":
        latest = None
    return ModelConfig(
        model.name, model.base_path, latest, versions, dict(model.version_labels.items())
    )


def read_metrics_path(path: str) -> str:
    """The path of the Prometheus page, empty where monitoring.config has it switched off.

    Raises:
        InputError: it cannot be read.
    """
    prometheus = _read(path, _monitoring_config()(), "monitoring.config").prometheus_config
    if not prometheus.enable:
        return ""
    page = prometheus.path or METRICS_PATH
    if not page.startswith("/"):
        raise _unusable(path, "a path that begins with /", repr(page))
    return page


def _monitoring_config():
    """The message type of monitoring.config, which no package brings."""
    fields = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="monitoring_config.proto", syntax="proto3")
    inner = file.message_type.add(name="PrometheusConfig")
    inner.field.add(name="enable", number=1, type=fields.TYPE_BOOL, label=fields.LABEL_OPTIONAL)
    inner.field.add(name="path", number=2, type=fields.TYPE_STRING, label=fields.LABEL_OPTIONAL)
    outer = file.message_type.add(name="MonitoringConfig")
    outer.field.add(
        name="prometheus_config",
        number=1,
        type=fields.TYPE_MESSAGE,
        type_name=".PrometheusConfig",
        label=fields.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("MonitoringConfig"))


def _read(path, message, kind):
    try:
        # A pipe would be waited for, and a device never ends.
        if not os.path.isfile(path) and os.path.exists(path):
            raise _unusable(path, f"a file as {kind}", "what is none")
        with open(path, encoding="utf-8") as file:
            text = file.read(_MOST_CHARACTERS + 1)
        if len(text) > _MOST_CHARACTERS:
            raise _unusable(path, f"at most {_MOST_CHARACTERS} characters", "more")
        return text_format.Parse(text, message)
    except OSError as error:
        raise InputError(
            f"Expected a {kind} to read, received {path}: {error.strerror}. Check the path."
        ) from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(
            f"Expected TensorFlow Serving's {kind} as {path}, received what does not parse: "
            f"{' '.join(str(error).split())}. Mend it."
        ) from None


def _unusable(path, expected, received):
    return InputError(f"Expected {expected} in {path}, received {received}. Mend it.")
