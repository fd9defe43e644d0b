"""The notebook's question: can the network learn 8 samples by heart?"""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[1] / "configs" / "notebook.cfg"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_eight_samples_are_learned_by_heart(tmp_path):
    """The notebook's data, with the small network and a constant learning rate."""
    command = [
        sys.executable, "-m", "r2n2_keras.train", f"--flagfile={CONFIG}", "--model=tiny",
        "--workdir=run", "--learning_rate=1e-3", "--learning_rate_drop_every=0",
        "--steps=800", "--evaluate_every_steps=100", "--models_per_category=12",
    ]  # fmt: skip
    env = {**os.environ, "R2N2_CACHE": str(tmp_path / "cache")}
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert result.returncode == 0, result.stderr[-3000:]
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        *_, last = csv.DictReader(file)
    assert float(last["loss"]) < 0.02
    assert float(last["iou"]) > 0.95
