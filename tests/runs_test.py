"""A run as the commands see it, and its folder."""

import os
import sys
import zipfile

import pytest
from commands import refusal

from r2n2_keras import runs, workdir
from r2n2_keras.config import Config, saved_settings
from r2n2_keras.errors import InputError


def open_workdir(**settings):
    """Opens a run and leaves it."""
    with runs.opened(Config(**settings)):
        pass


def test_all_flags_that_differ_are_named(tmp_path):
    open_workdir(workdir=str(tmp_path), seed=1, num_views="1..5")
    changed = Config(workdir=str(tmp_path), seed=2, l2=1e-5, num_views="1..5")
    expected = "--l2=0.0 --seed=1, received --l2=1e-05 --seed=2. Leave them out to go on"
    assert expected in refusal(runs.check_workdir, changed)
    runs.check_workdir(Config(workdir=str(tmp_path), seed=2, overwrite=True))
    # What says nothing about the training may be another.
    changed = {"steps": 7, "strategy": "mirrored", "checkpoint_every_seconds": 5, "data_dir": "d"}
    runs.check_workdir(Config(workdir=str(tmp_path), seed=1, num_views="1..5", **changed))


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in ("partial-17.model.keras", "partial-17.evaluation.json", "notes.txt"):
        (tmp_path / name).write_text("")
    open_workdir(workdir=str(tmp_path))
    names = sorted(path.name for path in tmp_path.iterdir())
    # An evaluation may be under way.
    assert names == ["flags.cfg", "notes.txt", "partial-17.evaluation.json"]


def test_a_lock_keeps_a_second_process_out(tmp_path):
    config = Config(workdir=str(tmp_path / "run"), model="tiny", num_views="1..5", steps=7)
    with runs.opened(config):
        with pytest.raises(InputError, match="where another process does"):
            open_workdir(workdir=config.workdir, overwrite=True)
        assert os.listdir(config.workdir) == ["flags.cfg"]
        assert saved_settings(config.workdir) == config
    open_workdir(workdir=config.workdir)
    assert saved_settings(str(tmp_path)) is saved_settings("") is None


def test_checkpoints_without_their_settings_and_damaged_settings_are_refused(tmp_path):
    (tmp_path / "checkpoints" / "step-000000004").mkdir(parents=True)
    with pytest.raises(InputError, match=r"flags.cfg beside the checkpoints.*--overwrite"):
        runs.check_workdir(Config(workdir=str(tmp_path)))
    (tmp_path / "flags.cfg").write_text("--mod\0el=tiny\n")
    with pytest.raises(InputError, match=r"Reading the run's settings, .*flags.cfg: "):
        runs.check_workdir(Config(workdir=str(tmp_path)))
    runs.check_workdir(Config(workdir=str(tmp_path), overwrite=True))


def test_an_interrupted_overwrite_keeps_the_settings_to_the_last(tmp_path, monkeypatch):
    open_workdir(workdir=str(tmp_path), seed=1)
    (tmp_path / "checkpoints" / "step-000000004").mkdir(parents=True)
    (tmp_path / "metrics.csv").write_text("")
    monkeypatch.setattr(workdir.os, "remove", lambda path: sys.exit(143))
    with pytest.raises(SystemExit):
        open_workdir(workdir=str(tmp_path), seed=2, overwrite=True)
    assert not (tmp_path / "checkpoints").exists()
    with pytest.raises(InputError, match="--seed=1, received --seed=2"):
        runs.check_workdir(Config(workdir=str(tmp_path), seed=2))


def test_overwrite_removes_the_run_and_nothing_else(tmp_path, capsys):
    open_workdir(workdir=str(tmp_path), model="tiny")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "ckpt-1.index").write_text("")
    (tmp_path / "notes.txt").write_text("mine")
    open_workdir(workdir=str(tmp_path), model="notebook", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flags.cfg", "notes.txt"]
    assert "checkpoints, flags.cfg" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("gs://bucket/run", "a local or mounted folder, received --{}=gs://bucket/run"),
        ("file", "--{} to be a folder, received the file file"),
    ],
)
def test_results_are_written_to_folders(place, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=message.format("export_dir")):
        runs.output_dir(Config(export_dir=place), "export_dir", "exports")
    assert message.format("workdir") in refusal(runs.check_workdir, Config(workdir=place))
    assert runs.output_dir(Config(workdir="run"), "export_dir", "exports") == "run/exports"


# The metrics


def test_metrics_round_trip(tmp_path):
    assert workdir.read_metrics(str(tmp_path)) == []
    assert workdir.best_row([]) is None
    rows = [
        {"step": step, "epoch": step / 10, "samples": 4 * step, "seconds": 1.5, "loss": 0.5,
         "iou": 0.25, "val_loss": 0.6, "val_iou": val_iou, "learning_rate": 1e-4}
        for step, val_iou in ((10, 0.1), (20, 0.3), (30, 0.2))
    ]  # fmt: skip
    workdir.write_metrics(str(tmp_path), rows)
    assert workdir.read_metrics(str(tmp_path)) == rows
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert header == "step,epoch,samples,seconds,loss,iou,val_loss,val_iou,learning_rate"
    assert workdir.best_row(rows)["step"] == 20


@pytest.mark.parametrize("content", ["garbage\n1\n", "step,loss\n1,2\n", "\x00,\x01\nx,y\n"])
def test_metrics_that_are_no_metrics(tmp_path, content):
    (tmp_path / "metrics.csv").write_text(content)
    assert "metrics.csv, which cannot be read" in refusal(workdir.read_metrics, str(tmp_path))


# Scores of other data or another model


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The current folder, with two runs on `data`, `run` and `other`, and a model of neither."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("data")
    for path in ("run/model.keras", "other/model.keras", "m.keras"):
        if os.path.dirname(path):
            open_workdir(workdir=os.path.dirname(path), data_dir="data")
        zipfile.ZipFile(path, "w").close()


OWN = {"workdir": "run", "data_dir": "data"}


@pytest.mark.parametrize(
    ("settings", "folder"),
    [
        (OWN, "run"),
        ({**OWN, "split": "all", "categories": ("chair",)}, "run"),
        ({**OWN, "data_dir": "run/../data"}, "run"),
        ({**OWN, "model_file": "run/model.keras"}, "run"),
        ({**OWN, "out": "other/../run"}, "other/../run"),
        ({**OWN, "data_dir": "elsewhere", "out": "scores"}, "scores"),
        ({"model_file": "m.keras", "data_dir": "x", "workdir": "scores"}, "scores"),
        ({"model_file": "m.keras", "data_dir": "x", "out": "scores"}, "scores"),
    ],
)
def test_where_scores_go(settings, folder, home):
    assert runs.evaluation_dir(Config(**settings)) == folder


@pytest.mark.parametrize(
    ("settings", "other"),
    [
        ({**OWN, "data_dir": "elsewhere"}, "other data than .*/data, received run"),
        ({**OWN, "data_dir": "gs://bucket/data"}, "other data than .*/data, received run"),
        ({**OWN, "data_dir": ""}, "other data than"),
        ({**OWN, "voxels_dir": "ShapeNetVox64"}, "other data than"),
        ({**OWN, "model_file": "m.keras"}, "the model m.keras, received run"),
        ({**OWN, "out": "other"}, "the model run/model.keras, received other"),
        ({**OWN, "data_dir": "elsewhere", "out": "run"}, "other data than .*/data, received run"),
    ],
)
def test_a_run_keeps_the_scores_of_its_own(settings, other, home):
    with pytest.raises(InputError, match=f"for scores of {other}.*Give --out=DIR"):
        runs.evaluation_dir(Config(**settings))


def test_a_run_that_names_no_loss_has_the_originals(tmp_path):
    (tmp_path / "flags.cfg").write_text("--model=tiny\n")
    assert saved_settings(str(tmp_path)).loss == "bce"
