"""The deployment files say what TensorFlow Serving understands, and the same as each other."""

import re
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

EXPORT = Path(__file__).parents[2] / "export"
COMPOSE = (EXPORT / "compose.yaml").read_text()
KUBERNETES = (EXPORT / "kubernetes.yaml").read_text()
STATUS = "/v1/models/r2n2"
SERVER = yaml.safe_load(COMPOSE)["services"]["cpu"]
DOCUMENTS = list(yaml.safe_load_all(KUBERNETES))
POD = DOCUMENTS[0]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]

# Fields of tensorflow.serving.BatchingParameters that 2.21 documents, and those that are wrapped.
WRAPPED = {
    "max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads",
    "max_execution_batch_size", "enable_large_batch_splitting",
}  # fmt: skip
PLAIN = {"allowed_batch_sizes", "pad_variable_length_inputs"}


def _lines(name):
    lines = (EXPORT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _model(text):
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = parsed.model_config_list.config
    named = (model.name, model.base_path, model.model_platform)
    assert named == ("r2n2", "/models/r2n2", "tensorflow")
    versions = list(model.model_version_policy.specific.versions)
    # The server refuses a label of a version that it does not serve.
    assert set(model.version_labels.values()) <= set(versions)
    return versions, dict(model.version_labels)


def test_models_config_serves_the_first_version_as_stable_and_explains_a_canary_that_parses():
    text = (EXPORT / "models.config").read_text()
    assert _model(text) == ([1], {"stable": 1})
    (example,) = re.findall(r"^#    model_config_list \{\n(?:#     .*\n)*#    \}\n", text, re.M)
    shown = _model(re.sub(r"^#", "", example, flags=re.M))
    assert shown == ([1, 2], {"stable": 1, "canary": 2})


def test_batching_config_has_fields_that_exist_and_fit_together():
    values = {}
    for line in _lines("batching.config"):
        wrapped = re.fullmatch(r"(\w+) \{ value: (\d+) \}", line)
        plain = re.fullmatch(r"(\w+): (\d+|true|false)", line)
        assert wrapped or plain, line
        name, value = (wrapped or plain).groups()
        assert name in (WRAPPED if wrapped else PLAIN)
        values.setdefault(name, []).append(value)
    sizes = [int(value) for value in values.pop("allowed_batch_sizes")]
    assert all(len(value) == 1 for value in values.values())
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == int(values["max_batch_size"][0])
    # With it, voxels would be of views that nobody sent.
    assert values["pad_variable_length_inputs"] == ["false"]


def test_monitoring_config_and_who_reads_it():
    path = DOCUMENTS[0]["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"]
    assert path == "/monitoring/prometheus/metrics"
    text = "\n".join(_lines("monitoring.config"))
    assert text == f'prometheus_config {{\n  enable: true\n  path: "{path}"\n}}'


def test_the_server_is_of_the_release_that_exports_are_made_with():
    """A server should not be older than the exporter."""
    pins = (EXPORT.parent / "constraints.txt").read_text()
    release = re.search(r"^tensorflow-serving-api==(\S+)$", pins, re.M)[1]
    assert f"\ntensorflow=={release.rpartition('.')[0]}." in pins
    tags = re.findall(r"image: tensorflow/serving:(\S+)", COMPOSE + KUBERNETES)
    assert tags == [release, f"{release}-gpu", release]
    readme = (EXPORT / "README.md").read_text()
    assert set(re.findall(r"tensorflow/serving:(\d\S*)", readme)) == {release}
    assert f"| TensorFlow Serving {release.rpartition('.')[0]} on one machine" in readme


@pytest.mark.parametrize(
    ("text", "flags"),
    [(COMPOSE, SERVER["command"]), (KUBERNETES, CONTAINER["args"])],
    ids=["compose", "kubernetes"],
)
def test_flags_lead_to_what_is_mounted(text, flags):
    flags = dict(flag.removeprefix("--").split("=") for flag in flags)
    assert flags["rest_api_port"] == "8501"
    # The label stands in the file before its version is loaded.
    assert flags["allow_version_labels_for_unavailable_models"] == "true"
    commented = dict(re.findall(r"^ +# - --(\w+)=(\S+)$", text, re.M))
    batching = {"enable_batching": "true", "batching_parameters_file": "/config/batching.config"}
    assert commented == batching
    for value in (flags | commented).values():
        if value.startswith("/"):
            assert Path(value).parent == Path("/config")
            assert (EXPORT / Path(value).name).is_file()


def test_models_and_configs_are_mounted_for_reading():
    models, configs = SERVER["volumes"]
    assert models.endswith(":/models/r2n2:ro") and configs == ".:/config:ro"
    read_only = {one["mountPath"] for one in CONTAINER["volumeMounts"] if one.get("readOnly")}
    assert read_only == {"/models/r2n2", "/config"}


def test_probes_ask_for_the_model():
    probes = {
        "startup": STATUS,
        # The status is HTTP 200 also where no version is loaded.
        "readiness": f"{STATUS}/metadata",
        "liveness": STATUS,
    }
    for name, path in probes.items():
        assert CONTAINER[f"{name}Probe"]["httpGet"] == {"path": path, "port": "rest"}


def test_a_pod_that_goes_outlives_its_requests():
    limit = int(re.search(r"rest_api_timeout_in_ms=(\d+)", KUBERNETES)[1]) / 1000
    command, seconds = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    assert limit < int(seconds) < POD["terminationGracePeriodSeconds"]


def test_names_in_kubernetes_agree():
    assert [one["metadata"]["name"] for one in DOCUMENTS] == ["r2n2-serving"] * 4
    assert set(re.findall(r"^ +app: (\S+)$", KUBERNETES, re.M)) == {"r2n2-serving"}
    files = re.findall(r"--from-file=export/(\S+)", KUBERNETES)
    assert files == ["models.config", "batching.config", "monitoring.config"]
