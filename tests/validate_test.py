"""`validate` as a user runs it: what it prints, writes and exits with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import fail, process, run, succeed

from r2n2_keras.data import splits
from r2n2_keras.data.categories import SYNSET_IDS

CHAIR, SOFA = SYNSET_IDS["chair"], SYNSET_IDS["sofa"]


def _rendering(model_id, view):
    synset_id = SYNSET_IDS[model_id.partition("_")[0]]
    return Path(f"data/ShapeNetRendering/{synset_id}/{model_id}/rendering/{view:02d}.png")


def _binvox(model_id):
    synset_id = SYNSET_IDS[model_id.partition("_")[0]]
    return Path(f"data/ShapeNetVox32/{synset_id}/{model_id}/model.binvox")


@pytest.fixture
def data(tree, tmp_path, monkeypatch):
    """`data` of the current folder, a copy of the synthesised set in which two files are broken."""
    shutil.copytree(tree, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    _rendering("chair_0001", 2).write_bytes(b"")
    _binvox("sofa_0003").unlink()
    return tmp_path / "data"


def _lines(*flags):
    """What is printed of `data`, which is not sound."""
    result = run("validate", "--data_dir=data", *flags, cwd=".")
    assert result.returncode == 1
    return result.stdout.splitlines()


def test_sound_data(tree, tmp_path):
    printed = succeed("validate", f"--data_dir={tree}", "--fix_list=bad.txt", cwd=tmp_path)
    assert printed.endswith("\n20 models, 120 renderings: 0 errors, 0 notes.\nWrote bad.txt\n")
    heading = "# Models to leave out: give this file as --exclude.\n"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"bad.txt": heading}


def test_the_main_job(data, tmp_path):
    result = process("validate", "--data_dir=data", "--fix_list=bad.txt", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout.splitlines()[:2] == [
        f"{_rendering('chair_0001', 2)}: expected a PNG, received an empty file",
        f"{_binvox('sofa_0003')}: expected voxels for the renderings, received none",
    ]
    assert "20 models, 120 renderings: 2 errors (1 broken PNG, 1 missing partner), 0 notes." in (
        result.stdout
    )
    rows = [line.replace("│", " ").split() for line in result.stdout.splitlines()]
    for row in ("chair 5 30 1 -", "lamp 5 30 - -", "sofa 5 30 1 -", "all 20 120 2 -"):
        assert row.split() in rows
    assert result.stderr == (
        "error: Expected sound data in data, received 2 models with errors. Mend what is listed "
        "above, or leave the models out by --exclude=bad.txt.\n"
    )
    assert Path("bad.txt").read_text().splitlines()[1:] == [
        f"{CHAIR}/chair_0001  # broken PNG",
        f"{SOFA}/sofa_0003  # missing partner",
    ]
    printed = succeed("validate", "--data_dir=data", "--exclude=bad.txt", cwd=".")
    assert "18 models, 108 renderings: 0 errors, 0 notes." in printed
    succeed("prepare", "--data_dir=data", "--out=prepared", "--exclude=bad.txt", cwd=".")
    succeed("validate", "--data_dir=prepared", cwd=".")


def test_notes_alone_are_no_failure(tree, tmp_path, monkeypatch):
    """Neither do they fill the list, nor takes it TensorFlow to find them."""
    shutil.copytree(tree, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    for number in range(5):
        for view in (3, 4, 5):  # opposite views that coincide
            model_id = f"sofa_{number:04d}"
            shutil.copy(_rendering(model_id, view - 3), _rendering(model_id, view))
    code = (
        "import sys\n"
        "from r2n2_keras import command, validate\n"
        "command.run(validate.main, '', 'validate')\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "--data_dir=data", "--fix_list=bad.txt"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert "  duplicate rendering: 15 notes on 5 models" in lines
    assert sum("received that of" in line for line in lines) == 10
    assert "    and 5 more" in lines
    assert lines[-3:] == ["20 models, 120 renderings: 0 errors, 15 notes.", "Wrote bad.txt", "[]"]
    assert splits.read_exclusions("bad.txt") == set()


def test_odd_names_stay_in_one_line(data):
    (data / "ShapeNetRendering" / "[red]\n" / "x").mkdir(parents=True)
    name = "a\nb[red]\x1b[31m:smile:"
    (data / "ShapeNetRendering" / CHAIR / name).mkdir()
    (data / "ShapeNetVox32" / SOFA / "x\ny").touch()
    lines = _lines("--fix_list=bad.txt")
    shown = f"data/ShapeNetRendering/{CHAIR}/a\\nb[red]\\x1b[31m:smile:/rendering"
    assert f"{shown}: expected renderings NN.png, received none" in lines
    other = f"Passed over 1 other file, such as data/ShapeNetVox32/{SOFA}/x\\ny."
    errors = "6 errors (5 missing partner, 1 broken PNG)"
    assert lines[-2] == f"22 models, 120 renderings: {errors}, 0 notes. {other}"
    assert ["[red]\\n", "1", "-", "2", "-"] in [line.replace("│", " ").split() for line in lines]
    assert len(splits.read_exclusions("bad.txt")) == 2


def test_a_thousand_errors(data):
    """Each has its line, and the table comes after them."""
    for number in range(500):
        (data / "ShapeNetRendering" / CHAIR / f"empty_{number}").mkdir()
    lines = _lines()
    assert sum("received none" in line for line in lines) == 1001
    errors = "1,002 errors (1,001 missing partner, 1 broken PNG)"
    assert lines[-1] == f"520 models, 120 renderings: {errors}, 0 notes."


def test_errors_of_no_single_model(data):
    ids = [f"sofa_{number:04d}" for number in range(5)]
    named = [{"taxonomy_id": SOFA, "train": ids, "val": ids[:1], "test": []}]
    Path("s.json").write_text(json.dumps(named))
    flags = ("--data_dir=data", "--split=pix2vox", "--split_file=s.json", "--categories=sofa")
    assert fail("validate", *flags, cwd=".") == (
        "error: Expected sound data in data, received 1 model with errors and 1 error of no single "
        "model. Mend what is listed above, or have the models to leave out written by "
        "--fix_list=FILE."
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "Expected --data_dir=DIR to look at, received none"),
        (["--data_dir=absent"], "--data_dir=absent, which does not exist"),
        (["--data_dir=data", "--views=1,2"], "Expected --views=N, how many views"),
        (["--data_dir=data", "--views=0"], "Expected --views=N, how many views"),
        (["--data_dir=data", "--fix_list=absent/bad.txt"], "Expected --fix_list to be a file"),
        (["--data_dir=data", "--fix_list=data"], "Expected --fix_list to be a file"),
        (["--data_dir=data", "--exclude=absent"], "--exclude=absent, which does not exist"),
        (["--data_dir=data", "--categories=unicorn"], "received unicorn"),
    ],
)
def test_what_it_needs(data, flags, message):
    result = run("validate", *flags, cwd=".")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert message in result.stderr
    assert os.listdir() == ["data"]


def test_number_of_views(data):
    text = "\n".join(_lines("--views=24", "--categories=lamp"))
    assert text.count("expected 24 views, received 6, without 06, 07, ") == 5
