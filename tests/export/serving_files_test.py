"""The deployment files say what TensorFlow Serving understands, and the same as each other.

No container is started here.
"""

import http.server
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

EXPORT = Path(__file__).parents[2] / "export"
COMPOSE = (EXPORT / "compose.yaml").read_text()
KUBERNETES = (EXPORT / "kubernetes.yaml").read_text()
STATUS = "/v1/models/r2n2"

# Fields of tensorflow.serving.BatchingParameters that 2.21 documents, and those that are wrapped.
WRAPPED = {
    "max_batch_size",
    "batch_timeout_micros",
    "max_enqueued_batches",
    "num_batch_threads",
    "max_execution_batch_size",
    "enable_large_batch_splitting",
}
PLAIN = {"allowed_batch_sizes", "pad_variable_length_inputs"}


def _without_comments(text):
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def _model(text):
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = parsed.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (
        "r2n2",
        "/models/r2n2",
        "tensorflow",
    )
    versions = list(model.model_version_policy.specific.versions)
    # The server refuses a label of a version that it does not serve.
    assert set(model.version_labels.values()) <= set(versions)
    return versions, dict(model.version_labels)


def test_models_config_serves_the_first_version_as_stable():
    assert _model((EXPORT / "models.config").read_text()) == ([1], {"stable": 1})


def test_models_config_explains_a_canary_that_parses():
    text = (EXPORT / "models.config").read_text()
    (example,) = re.findall(r"^#    model_config_list \{\n(?:#     .*\n)*#    \}\n", text, re.M)
    versions, labels = _model(re.sub(r"^#", "", example, flags=re.M))
    assert versions == [1, 2]
    assert labels == {"stable": 1, "canary": 2}


def test_batching_config_has_fields_that_exist_and_fit_together():
    values = {}
    for line in _without_comments((EXPORT / "batching.config").read_text()).splitlines():
        if not line:
            continue
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
    text = _without_comments((EXPORT / "monitoring.config").read_text())
    path = re.fullmatch(
        r'prometheus_config \{\n  enable: true\n  path: "(/[\w/]+)"\n\}', text.strip()
    )[1]
    assert path == "/monitoring/prometheus/metrics"
    assert f"prometheus.io/path: {path}\n" in KUBERNETES


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


@pytest.mark.parametrize("text", [COMPOSE, KUBERNETES], ids=["compose", "kubernetes"])
def test_flags_lead_to_what_is_mounted(text):
    flags = dict(re.findall(r"^ +- --(\w+)=(\S+)$", text, re.M))
    assert flags["rest_api_port"] == "8501"
    # The label stands in the file before its version is loaded.
    assert flags["allow_version_labels_for_unavailable_models"] == "true"
    named = [Path(value) for value in flags.values() if value.startswith("/")]
    commented = re.findall(r"^ +# - --(\w+)=(\S+)$", text, re.M)
    assert commented == [
        ("enable_batching", "true"),
        ("batching_parameters_file", "/config/batching.config"),
    ]
    for path in [*named, Path(commented[1][1])]:
        assert path.parent == Path("/config")
        assert (EXPORT / path.name).is_file()
    assert re.search(r":/config:ro$|mountPath: /config\n +readOnly: true", text, re.M)
    assert re.search(r":/models/r2n2:ro$|mountPath: /models/r2n2\n.*\n +readOnly: true", text, re.M)


def test_probes_ask_for_the_model():
    probes = dict(re.findall(r"(\w+)Probe:\n +httpGet:\n +path: (\S+)\n +port: rest\n", KUBERNETES))
    assert probes == {
        "startup": STATUS,
        # The status is HTTP 200 also where no version is loaded.
        "readiness": f"{STATUS}/metadata",
        "liveness": STATUS,
    }


def test_a_pod_that_goes_outlives_its_requests():
    limit = int(re.search(r"rest_api_timeout_in_ms=(\d+)", KUBERNETES)[1]) / 1000
    sleep = int(re.search(r'command: \[sleep, "(\d+)"\]', KUBERNETES)[1])
    grace = int(re.search(r"terminationGracePeriodSeconds: (\d+)", KUBERNETES)[1])
    assert limit < sleep < grace


def test_names_in_kubernetes_agree():
    assert len(re.findall(r"^kind: ", KUBERNETES, re.M)) == 4
    assert set(re.findall(r"^  name: (\S+)$", KUBERNETES, re.M)) == {"r2n2-serving"}
    assert set(re.findall(r"^ +app: (\S+)$", KUBERNETES, re.M)) == {"r2n2-serving"}
    files = re.findall(r"--from-file=export/(\S+)", KUBERNETES)
    assert files == ["models.config", "batching.config", "monitoring.config"]


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes.yaml"])
def test_yaml_parses(name):
    yaml = pytest.importorskip("yaml")
    documents = list(yaml.safe_load_all((EXPORT / name).read_text()))
    assert all(isinstance(document, dict) for document in documents)


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("state", "code"), [("AVAILABLE", 0), ("LOADING", 1), ("END", 1), ("refused", 1)]
)
def test_the_health_check_tells_an_available_version(state, code):
    paths = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            paths.append(self.path)
            status = {"error_code": "UNAVAILABLE", "error_message": "not AVAILABLE"}
            entry = {"version": "1", "state": state, "status": status}
            body = json.dumps({"model_version_status": [entry]}, indent=4).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            script = " ".join(re.search(r"- -c\n +- >-\n((?: {8}.*\n)+)", COMPOSE)[1].split())
            assert "/127.0.0.1/8501 " in script
            # Nobody listens to port 9, `discard`.
            port = 9 if state == "refused" else server.server_port
            script = script.replace("/8501", f"/{port}")
            result = subprocess.run(["bash", "-c", script], capture_output=True, timeout=60)
        finally:
            server.shutdown()
            thread.join()
    assert result.returncode == code
    assert paths == ([] if state == "refused" else [STATUS])
