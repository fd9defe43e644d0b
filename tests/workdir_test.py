"""The folder of a run."""

import subprocess
import sys

import pytest

from r2n2_keras import config as config_lib
from r2n2_keras import runs, workdir
from r2n2_keras.config import Config
from r2n2_keras.errors import InputError


def _row(step, val_iou):
    return {
        "step": step,
        "epoch": step / 10,
        "samples": step * 4,
        "seconds": 1.5 * step,
        "loss": 0.5,
        "iou": 0.25,
        "val_loss": 0.6,
        "val_iou": val_iou,
        "learning_rate": 1e-4,
    }


def test_opening_writes_flags_that_parse_back(tmp_path):
    config = Config(workdir=str(tmp_path / "run"), model="tiny", num_views="1..5", steps=7)
    runs.open_workdir(config)
    saved = config_lib.parse([f"--flagfile={tmp_path / 'run' / 'flags.cfg'}"], from_run=False)
    assert saved == config


@pytest.fixture(autouse=True)
def unlocked(monkeypatch, request):
    """A process that trains keeps its workdir to itself; here one process opens it twice."""
    if "lock" not in request.node.name:
        monkeypatch.setattr(workdir, "_lock", lambda folder: None)


def test_the_run_of_another_preset_is_kept(tmp_path):
    runs.open_workdir(Config(workdir=str(tmp_path), model="tiny"))
    with pytest.raises(InputError, match=r"--model=tiny, received --model=notebook.*--overwrite"):
        runs.check_workdir(Config(workdir=str(tmp_path), model="notebook"))
    runs.check_workdir(Config(workdir=str(tmp_path), model="tiny"))
    runs.check_workdir(Config(workdir=str(tmp_path), model="notebook", overwrite=True))


def test_all_flags_that_differ_are_named(tmp_path):
    runs.open_workdir(Config(workdir=str(tmp_path), seed=1, num_views="1..5"))
    with pytest.raises(InputError) as caught:
        runs.check_workdir(Config(workdir=str(tmp_path), seed=2, l2=1e-5, num_views="1..5"))
    expected = "--l2=0.0 --seed=1, received --l2=1e-05 --seed=2. Give the former to go on"
    assert expected in str(caught.value)
    # What says nothing about the training may be another.
    changed = {"steps": 7, "strategy": "mirrored", "checkpoint_every_seconds": 5, "data_dir": "d"}
    runs.check_workdir(Config(workdir=str(tmp_path), seed=1, num_views="1..5", **changed))


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in ("partial-17.model.keras", "partial-17.evaluation.json", "notes.txt"):
        (tmp_path / name).write_text("")
    runs.open_workdir(Config(workdir=str(tmp_path)))
    names = sorted(path.name for path in tmp_path.iterdir())
    # An evaluation may be under way.
    assert names == ["flags.cfg", "notes.txt", "partial-17.evaluation.json"]


def test_a_lock_keeps_a_second_process_out(tmp_path):
    runs.open_workdir(Config(workdir=str(tmp_path / "run")))
    script = (
        "from r2n2_keras.config import Config\nfrom r2n2_keras.training import workdir\n"
        f"runs.open_workdir(Config(workdir={str(tmp_path / 'run')!r}, overwrite=True))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "where another process does" in result.stderr.splitlines()[-1]
    assert (tmp_path / "run" / "flags.cfg").exists()


def test_checkpoints_without_their_settings_are_refused(tmp_path):
    (tmp_path / "checkpoints" / "step-000000004").mkdir(parents=True)
    with pytest.raises(InputError, match=r"flags.cfg beside the checkpoints.*--overwrite"):
        runs.check_workdir(Config(workdir=str(tmp_path)))
    runs.check_workdir(Config(workdir=str(tmp_path), overwrite=True))


def test_damaged_settings_are_named(tmp_path):
    (tmp_path / "flags.cfg").write_text("--mod\0el=tiny\n")
    with pytest.raises(InputError, match=r"Reading the run's settings, .*flags.cfg: "):
        runs.check_workdir(Config(workdir=str(tmp_path)))


def test_an_interrupted_overwrite_keeps_the_settings_to_the_last(tmp_path, monkeypatch):
    runs.open_workdir(Config(workdir=str(tmp_path), seed=1))
    (tmp_path / "checkpoints" / "step-000000004").mkdir(parents=True)
    (tmp_path / "metrics.csv").write_text("")
    monkeypatch.setattr(workdir.os, "remove", lambda path: sys.exit(143))
    with pytest.raises(SystemExit):
        runs.open_workdir(Config(workdir=str(tmp_path), seed=2, overwrite=True))
    assert not (tmp_path / "checkpoints").exists()
    with pytest.raises(InputError, match="--seed=1, received --seed=2"):
        runs.check_workdir(Config(workdir=str(tmp_path), seed=2))


def test_overwrite_removes_the_run_and_nothing_else(tmp_path, capsys):
    runs.open_workdir(Config(workdir=str(tmp_path), model="tiny"))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "ckpt-1.index").write_text("")
    (tmp_path / "notes.txt").write_text("mine")
    runs.open_workdir(Config(workdir=str(tmp_path), model="notebook", overwrite=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flags.cfg", "notes.txt"]
    assert "checkpoints, flags.cfg" in capsys.readouterr().out


def test_missing_workdir():
    with pytest.raises(InputError, match=r"Expected --workdir=DIR"):
        runs.check_workdir(Config())


def test_workdir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="folder"):
        runs.check_workdir(Config(workdir=str(tmp_path / "file")))


def test_metrics_round_trip(tmp_path):
    rows = [_row(10, 0.1), _row(20, 0.3), _row(30, 0.2)]
    workdir.write_metrics(str(tmp_path), rows)
    assert workdir.read_metrics(str(tmp_path)) == rows
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert header == "step,epoch,samples,seconds,loss,iou,val_loss,val_iou,learning_rate"
    assert workdir.best_row(rows)["step"] == 20


@pytest.mark.parametrize("content", ["garbage\n1\n", "step,loss\n1,2\n", "\x00,\x01\nx,y\n"])
def test_metrics_that_are_no_metrics(tmp_path, content):
    (tmp_path / "metrics.csv").write_text(content)
    with pytest.raises(InputError, match=r"metrics\.csv, which cannot be read"):
        workdir.read_metrics(str(tmp_path))


def test_metrics_of_a_new_run_are_empty(tmp_path):
    assert workdir.read_metrics(str(tmp_path)) == []
    assert workdir.best_row([]) is None


def test_a_run_keeps_its_loss_and_one_that_names_none_has_the_originals(tmp_path):
    runs.open_workdir(Config(workdir=str(tmp_path), loss="dice"))
    with pytest.raises(InputError, match="--loss=dice, received --loss=bce"):
        runs.check_workdir(Config(workdir=str(tmp_path)))
    flags = tmp_path / "flags.cfg"
    flags.write_text("".join(x for x in flags.open() if not x.startswith("--loss=")))
    runs.check_workdir(Config(workdir=str(tmp_path), loss="bce"))
