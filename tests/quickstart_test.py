"""The quick start as a user runs it: what it must reach, in what time and memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quick_start_learns_to_see(tmp_path):
    """The benchmark runs the same commands as `make quickstart` and measures them."""
    command = [sys.executable, str(ROOT / "benchmarks" / "quickstart.py"), f"--out={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert result.returncode == 0, result.stderr[-3000:]
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["iou_3_views"] >= figures["mean_shape_iou"] + 0.10
    assert figures["iou_3_views"] >= figures["iou_1_view"]
    assert figures["peak_memory_gb"] < 4
    assert (tmp_path / "runs" / "quickstart" / "exports" / "1" / "saved_model.pb").is_file()
    assert (tmp_path / "runs" / "quickstart" / "evaluation.json").is_file()
