"""The exported model in older TensorFlows than the one that exported it, each installed afresh."""

import json
import shutil
import subprocess
import sys
import venv

import pytest
from reference import RESIDUAL

from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.serving import golden, version_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def versions(exported, tmp_path_factory):
    """Exports with an LSTM, and with the layers of the paper's largest network, narrow."""
    residual = R2N2(**RESIDUAL)
    folder = tmp_path_factory.mktemp("residual")
    version = version_folder.export_version(residual, str(folder), threshold=0.4, card="")
    return [exported.version, version]


@pytest.mark.parametrize("release", ["2.16.2", "2.19.1", "2.20.0", "2.21.0"])
def test_the_export_loads_and_answers(versions, release, tmp_path):
    if sys.version_info >= (3, 13) and release < "2.20":
        pytest.skip(f"TensorFlow {release} was never released for Python 3.13")
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([*pip, f"tensorflow=={release}"], check=True, timeout=1200)
        for version in versions:
            command = [python, "-I", golden.__file__, version]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
            assert ended.returncode == 0, ended.stderr[-2000:]
            assert json.loads(ended.stdout) == []
    finally:
        shutil.rmtree(tmp_path / "venv")  # gigabytes
