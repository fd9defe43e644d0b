"""What README.md and docs/ tell people to type works, and the quick start reaches its scores."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Small enough for a test: the same commands, less data and fewer steps.
SMALL = ["--models_per_category=5", "--batch_size=2", "--steps=2", "--evaluate_every_steps=2"]


def _commands():
    pages = "\n".join(page.read_text() for page in PAGES)
    for language, text in re.findall(r"^```(bash|python)\n(.*?)^```", pages, re.M | re.S):
        if language == "python":
            yield language, text
        else:
            for line in text.replace("\\\n", " ").splitlines():
                if line.strip() and not line.startswith("#"):
                    yield language, line


def test_the_two_commands_come_first():
    first, second = (shlex.split(text, comments=True) for _, text in list(_commands())[:2])
    assert first == ["make", "quickstart"]
    assert second == ["make", "test"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_runs(tmp_path):
    for folder in ("configs", "benchmarks", "export"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    env = {**os.environ, "R2N2_CACHE": str(tmp_path / "cache"), "PYTHON": sys.executable}
    run = 0
    for language, text in _commands():
        command = shlex.split(text, comments=True) if language == "bash" else ["python", "-c", text]
        if command[:2] == ["pip", "install"]:
            continue
        if command[0] == "make":
            # Running them here would install and test within the tests.
            command = ["make", "-n", "-C", str(ROOT), *command[1:]]
        command = _small([sys.executable if word == "python" else word for word in command])
        result = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=300
        )
        assert result.returncode == 0, (text, result.stderr[-3000:])
        run += 1
    assert run > 8


def _small(command):
    """The command on little data; those that train for hours build and make two steps."""
    if any(word.endswith("train_workers.sh") for word in command):
        return command + SMALL
    if "r2n2_keras.train" in command:
        is_quick_start = any("quickstart.cfg" in word for word in command)
        return command + SMALL + ([] if is_quick_start else ["--dry_run"])
    if "r2n2_keras.synthesize" in command:
        return command + ["--models_per_category=5", "--views=20"]
    if any(word.startswith("benchmarks/") for word in command):
        return command + ["--help"]
    return command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text()
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text):
        assert (page.parent / target).exists(), target
        if anchor and not target:
            titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]
            assert anchor in anchors


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quick_start_learns_to_see(tmp_path):
    """The benchmark runs the same commands as `make quickstart` and measures them."""
    command = [sys.executable, str(ROOT / "benchmarks" / "quickstart.py"), f"--out={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["iou_3_views"] >= figures["mean_shape_iou"] + 0.10
    assert figures["iou_3_views"] >= figures["iou_1_view"]
    assert figures["peak_memory_gb"] < 4
    for name in ("exports/1/saved_model.pb", "evaluation.json"):
        assert (tmp_path / "runs" / "quickstart" / name).is_file()
