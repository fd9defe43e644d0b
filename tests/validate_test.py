"""`validate` as a user runs it: what it prints, writes and exits with."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from r2n2_keras import config, validate
from r2n2_keras.data import splits
from r2n2_keras.data.categories import SYNSET_IDS
from r2n2_keras.errors import InputError
from r2n2_keras.preparation.checker import Kind
from r2n2_keras.preparation.validate_summary import HEADS

CHAIR, SOFA = SYNSET_IDS["chair"], SYNSET_IDS["sofa"]
RENDERING = f"ShapeNetRendering/{CHAIR}/chair_0001/rendering/02.png"
BINVOX = f"ShapeNetVox32/{SOFA}/sofa_0003/model.binvox"


def run(*flags, cwd):
    """Runs the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "r2n2_keras.validate", *flags],
        capture_output=True, text=True, timeout=300, cwd=cwd,
    )  # fmt: skip


def main(*flags):
    """Runs the command in this process; gives the line of its error, None where all is well."""
    try:
        validate.main(config.parse(list(flags)))
    except InputError as error:
        assert "\n" not in str(error)
        return str(error)
    return None


@pytest.fixture
def data(tree, tmp_path, monkeypatch):
    """A folder with a copy of the synthesised set in `data`, in which two files are broken."""
    shutil.copytree(tree, tmp_path / "data")
    (tmp_path / "data" / RENDERING).write_bytes(b"")
    (tmp_path / "data" / BINVOX).unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def test_sound_data(tree, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(f"--data_dir={tree}", "--fix_list=bad.txt") is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["20 models, 120 renderings: 0 errors, 0 notes.", "Wrote bad.txt"]
    assert splits.read_exclusions("bad.txt") == set()


def test_a_fix_list_from_the_first_run_to_the_second(data, tmp_path):
    result = run("--data_dir=data", "--fix_list=bad.txt", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout.splitlines()[:2] == [
        f"data/{RENDERING}: expected a PNG, received an empty file",
        f"data/{BINVOX}: expected voxels for the renderings, received none",
    ]
    assert result.stderr == (
        "error: Expected sound data in data, received 2 models with errors. Mend what is listed "
        "above, or leave the models out by --exclude=bad.txt.\n"
    )
    assert (tmp_path / "bad.txt").read_text().splitlines()[1:] == [
        f"{CHAIR}/chair_0001  # broken PNG",
        f"{SOFA}/sofa_0003  # missing partner",
    ]
    result = run("--data_dir=data", "--exclude=bad.txt", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "18 models, 108 renderings: 0 errors, 0 notes." in result.stdout


def test_the_list_is_taken_by_prepare(data):
    from r2n2_keras import prepare

    assert "2 models" in main("--data_dir=data", "--fix_list=bad.txt")
    prepare.main(config.parse(["--data_dir=data", "--out=prepared", "--exclude=bad.txt"]))
    assert main("--data_dir=prepared") is None
    assert main("--data_dir=prepared", "--exclude=bad.txt") is None


def test_table(data, capsys):
    main("--data_dir=data")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["chair", "5", "30", "-", "1"] in rows
    assert ["lamp", "5", "30", "-", "-"] in rows
    assert ["sofa", "5", "30", "1", "-"] in rows
    assert ["all", "20", "120", "1", "1"] in rows


def test_the_table_fits_into_80_characters(data, capsys, monkeypatch):
    """Of the kinds that a tree can have all at once."""
    monkeypatch.setenv("COLUMNS", "80")
    for number, name in enumerate(["00", "01", "02"]):
        target = data / f"ShapeNetRendering/{CHAIR}/chair_000{number}/rendering/{name}.png"
        target.unlink(missing_ok=True)
    lamp = data / "ShapeNetVox32" / SYNSET_IDS["lamp"]
    header = b"#binvox 1\ndim 32 32 32\ndata\n"
    (lamp / "lamp_0000" / "model.binvox").write_bytes(b"")
    (lamp / "lamp_0001" / "model.binvox").write_bytes(header + b"\x00\x80" * 256)
    (lamp / "lamp_0002" / "model.binvox").write_bytes(
        header.replace(b"32", b"16") + b"\x01\x80" * 32
    )
    shutil.copy(lamp / "lamp_0003" / "model.binvox", lamp / "lamp_0004" / "model.binvox")
    sofa = data / "ShapeNetRendering" / SOFA
    shutil.copy(
        sofa / "sofa_0000" / "rendering" / "00.png", sofa / "sofa_0001" / "rendering" / "00.png"
    )
    (sofa / "sofa_0002" / "rendering" / "00.png").write_bytes(b"")
    (sofa / "sofa_0002" / "rendering" / "01.png").unlink()
    (sofa / "sofa_0002" / "rendering" / "01.png").mkdir()
    Image.new("RGBA", (9, 9)).save(sofa / "sofa_0004" / "rendering" / "03.png")
    main("--data_dir=data")
    table = capsys.readouterr().out.partition("category")[2]
    assert max(map(len, table.splitlines())) <= 80
    # No pair, not read, PNG, binvox, dims, empty; other views, size, same PNG, same voxels.
    assert re.search(r"\ball +20 +117 +1 +1 +2 +1 +1 +1 +3 +1 +1 +1\b", table)


def test_every_kind_has_a_column():
    assert list(HEADS) == list(Kind)


def test_notes_alone_are_no_failure(tree, tmp_path):
    """Neither do they fill the list, nor takes it TensorFlow to find them."""
    shutil.copytree(tree, tmp_path / "data")
    for number in range(5):
        views = tmp_path / f"data/ShapeNetRendering/{SOFA}/sofa_000{number}/rendering"
        for view in (3, 4, 5):  # opposite views that coincide
            shutil.copy(views / f"0{view - 3}.png", views / f"0{view}.png")
    code = (
        "import sys\n"
        "from r2n2_keras import command, validate\n"
        "command.run(validate.main, '', 'validate')\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    flags = ["--data_dir=data", "--fix_list=bad.txt"]
    result = subprocess.run(
        [sys.executable, "-c", code, *flags],
        capture_output=True, text=True, timeout=300, cwd=tmp_path,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert "  duplicate rendering: 15 notes on 5 models" in lines
    assert sum("received that of" in line for line in lines) == 10
    assert "    and 5 more" in lines
    assert lines[-3:] == [
        "20 models, 120 renderings: 0 errors, 15 notes.", "Wrote bad.txt", "[]",
    ]  # fmt: skip
    assert splits.read_exclusions(str(tmp_path / "bad.txt")) == set()


def test_odd_names_stay_in_one_line(data, capsys):
    (data / "ShapeNetRendering" / "[red]\n" / "x").mkdir(parents=True)
    name = "a\nb[red]\x1b[31m:smile:"
    (data / "ShapeNetRendering" / CHAIR / name).mkdir()
    (data / "ShapeNetVox32" / SOFA / "x\ny").touch()
    main("--data_dir=data", "--fix_list=bad.txt")
    lines = capsys.readouterr().out.splitlines()
    shown = f"data/ShapeNetRendering/{CHAIR}/a\\nb[red]\\x1b[31m:smile:/rendering"
    assert f"{shown}: expected renderings NN.png, received none" in lines
    other = f"Passed over 1 other file, such as data/ShapeNetVox32/{SOFA}/x\\ny."
    assert f"22 models, 120 renderings: 6 errors, 0 notes. {other}" in lines
    assert ["[red]\\n", "1", "-", "2", "-"] in [line.split() for line in lines]
    assert len(splits.read_exclusions("bad.txt")) == 2


def test_thousands_of_errors(data, capsys):
    """Each has its line, and the table comes after them."""
    for number in range(1500):
        (data / "ShapeNetRendering" / CHAIR / f"empty_{number}").mkdir()
    assert "received 1,502 models with errors" in main("--data_dir=data")
    lines = capsys.readouterr().out.splitlines()
    assert sum("received none" in line for line in lines) == 3001
    assert lines[-1] == "1,520 models, 120 renderings: 3,002 errors, 0 notes."


def test_errors_of_no_single_model(data):
    ids = [f"sofa_{number:04d}" for number in range(5)]
    named = [{"taxonomy_id": SOFA, "train": ids, "val": ids[:1], "test": []}]
    (data.parent / "s.json").write_text(json.dumps(named))
    flags = ("--data_dir=data", "--split=pix2vox", "--split_file=s.json", "--categories=sofa")
    assert main(*flags) == (
        "Expected sound data in data, received 1 model with errors and 1 error of no single "
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
def test_what_it_needs(data, flags, message, capsys):
    before = sorted(os.listdir())
    assert message in main(*flags)
    assert capsys.readouterr().out == ""
    assert sorted(os.listdir()) == before


def test_number_of_views(data, capsys):
    main("--data_dir=data", "--views=24", "--categories=lamp")
    assert capsys.readouterr().out.count("expected 24 views, received 6, without 06, 07, ") == 5
