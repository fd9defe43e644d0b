"""The commands, run as a user runs them: in a process of their own, from a folder of their own."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import TRAIN, fail, succeed
from PIL import Image

import r2n2_keras


@pytest.fixture(scope="module")
def home(tree, tmp_path_factory):
    """A folder in which a run was trained, evaluated, predicted with and exported."""
    folder = tmp_path_factory.mktemp("home")
    succeed("train", *TRAIN, f"--data_dir={tree}", cwd=folder)
    succeed("evaluate", "--workdir=run", "--eval_views=1,3", cwd=folder)
    succeed("predict", "--workdir=run", cwd=folder)
    succeed("export", "--workdir=run", cwd=folder)
    return folder


def test_the_main_job_leaves_what_it_promises(home):
    names = {path.name for path in (home / "run").iterdir()}
    assert names == {
        "flags.cfg", "split.json", "checkpoints", "metrics.csv", "tensorboard", "curves.png",
        "model.keras", "evaluation.json", "evaluation.md", "examples.png", "prediction", "exports",
    }  # fmt: skip
    assert sorted(os.listdir(home / "run" / "exports")) == ["1"]
    leftovers = [path for path in home.rglob("*") if "partial" in path.name]
    assert leftovers == []


def test_evaluation_is_of_models_that_were_held_out(home, tree):
    split = json.loads((home / "run" / "split.json").read_text())
    evaluation = json.loads((home / "run" / "evaluation.json").read_text())
    assert evaluation["split"] == "test"
    assert evaluation["samples"] == len(split["test"]) > 0
    assert not set(split["test"]) & set(split["train"] + split["val"])
    assert {(row["views"], row["threshold"]) for row in evaluation["summary"]} == {
        (views, threshold) for views in (1, 3) for threshold in (0.2, 0.3, 0.4, 0.5)
    }
    assert evaluation["model"] == "tiny"
    assert evaluation["step"] in (2, 3)


def test_prediction_files_agree(home):
    folder = home / "run" / "prediction"
    with np.load(folder / "prediction.npz") as arrays:
        occupancy, voxels = arrays["occupancy"], arrays["voxels"]
    assert occupancy.shape == (32, 32, 32)
    assert occupancy.dtype == np.float32
    np.testing.assert_array_equal(voxels, occupancy > 0.4)
    np.testing.assert_array_equal(r2n2_keras.binvox.read(folder / "prediction.binvox").data, voxels)
    with Image.open(folder / "prediction.png") as picture:
        assert picture.size[0] > 400


def test_the_python_api_gives_what_the_command_gave(home, tree):
    from r2n2_keras.data.photos import read_views
    from r2n2_keras.model.image_spec import ImageSpec

    model = r2n2_keras.R2N2.from_preset(home / "run")
    split = json.loads((home / "run" / "split.json").read_text())
    folder = tree / "ShapeNetRendering" / split["test"][0] / "rendering"
    pictures = [(f"{n}", (folder / f"0{n}.png").read_bytes()) for n in range(3)]
    views = read_views(pictures, ImageSpec(64, 3, 240))
    with np.load(home / "run" / "prediction" / "prediction.npz") as arrays:
        np.testing.assert_allclose(model.predict(views[None])[0], arrays["occupancy"], atol=1e-5)


def test_pictures_of_ones_own(home):
    folder = home / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n, (size, suffix) in enumerate([((200, 120), "jpg"), ((64, 64), "png"), ((90, 90), "bmp")]):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.{suffix}")
    output = succeed(
        "predict", "--model_file=run/model.keras", "--images=photos", "--out=mine",
        "--formats=npz,binvox", "--threshold=0.3", cwd=home,
    )  # fmt: skip
    assert "3 views" in output
    assert sorted(os.listdir(home / "mine")) == ["prediction.binvox", "prediction.npz"]
    with np.load(home / "mine" / "prediction.npz") as arrays:
        np.testing.assert_array_equal(arrays["voxels"], arrays["occupancy"] > 0.3)


def test_exporting_again_adds_a_version(home):
    (home / "versions" / "1").mkdir(parents=True)
    succeed("export", "--workdir=run", "--export_dir=versions", cwd=home)
    assert sorted(os.listdir(home / "versions")) == ["1", "2"]
    card = (home / "versions" / "2" / "assets.extra" / "model_card.md").read_text()
    assert "| 3 | 0." in card  # the run's scores


def test_exporting_to_another_format(home):
    flags = ("--workdir=run", "--export_dir=files", "--format=litert")
    assert "Give --num_views=N" in fail("export", *flags, "--num_views=1..2", cwd=home)
    output = succeed("export", *flags, "--num_views=2", cwd=home)
    assert "Wrote files/model.tflite; checked with TensorFlow" in output
    assert os.listdir(home / "files") == ["model.tflite"]


def test_a_run_keeps_its_split_when_models_join_the_data(tree, tmp_path):
    data, model = _copy(tree, tmp_path)
    succeed("train", *TRAIN, "--data_dir=data", "--steps=1", cwd=tmp_path)
    before = json.loads((tmp_path / "run" / "split.json").read_text())
    for half in ("ShapeNetRendering", "ShapeNetVox32"):
        for n in range(9):  # ids that sort first: a fresh split would move every other model
            shutil.copytree(data / half / model, data / half / model.with_name(f"a{n}"))
    succeed("train", *TRAIN, "--data_dir=data", "--steps=2", cwd=tmp_path)
    assert json.loads((tmp_path / "run" / "split.json").read_text()) == before


def test_other_data_do_not_spoil_a_run(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "fewer")
    shutil.rmtree(tmp_path / "fewer" / "ShapeNetVox32" / "03001627")
    succeed("train", *TRAIN, f"--data_dir={tree}", "--steps=1", cwd=tmp_path)
    files = ("split.json", "flags.cfg", "model.keras")
    before = {name: (tmp_path / "run" / name).read_bytes() for name in files}
    line = fail("train", *TRAIN, f"--data_dir={tree}", "--categories=chair", cwd=tmp_path)
    assert "--categories=, received --categories=chair" in line
    line = fail("train", *TRAIN, "--data_dir=fewer", cwd=tmp_path)
    assert "data without" in line
    flags = (*TRAIN, f"--data_dir={tree}", "--num_views=7", "--overwrite")
    assert "at least 7 renderings" in fail("train", *flags, cwd=tmp_path)
    assert {name: (tmp_path / "run" / name).read_bytes() for name in files} == before


def test_another_data_set_is_scored_whole(home, tmp_path):
    succeed(
        "synthesize", "--out=other", "--categories=04379243", "--models_per_category=2",
        "--views=3", "--seed=5", cwd=tmp_path,
    )  # fmt: skip
    shutil.copytree(home / "run", tmp_path / "run")
    flags = ("--workdir=run", "--data_dir=other", "--eval_views=3")
    assert "received none of them" in fail("evaluate", *flags, "--split=val", cwd=tmp_path)
    # Table 0000 and 0001 have the names of training models: rename them.
    for folder in list((tmp_path / "other").glob("*/04379243/*")):
        folder.rename(folder.with_name(f"new_{folder.name}"))
    assert "received none of them" in fail("evaluate", *flags, cwd=tmp_path)
    succeed("evaluate", *flags, "--split=all", cwd=tmp_path)
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["samples"] == 2
    assert evaluation["summary"][0]["mean_shape_iou"] is None


def test_another_backend_is_refused(tmp_path):
    line = fail("train", *TRAIN, cwd=tmp_path, KERAS_BACKEND="jax")
    assert "KERAS_BACKEND=tensorflow, received jax" in line


def test_unknown_category(tree, tmp_path):
    flags = (*TRAIN, f"--data_dir={tree}", "--categories=chair,charr")
    line = fail("train", *flags, cwd=tmp_path)
    assert "received charr" in line
    assert "chair, lamp, sofa, table" in line


def test_terminating_leaves_nothing_half_written(tmp_path):
    command = [sys.executable, "-m", "r2n2_keras.synthesize", "--out=data"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("data.partial*/ShapeNetVox32/*/*/model.binvox")):
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert list(tmp_path.iterdir()) == []


def test_synthesised_data_is_announced_and_cached(tmp_path):
    flags = (*TRAIN, "--models_per_category=3", "--categories=table,lamp")
    first = succeed("train", *flags, "--steps=1", cwd=tmp_path, R2N2_CACHE=str(tmp_path / "cache"))
    assert "synthesised furniture, not ShapeNet" in first
    (folder,) = (tmp_path / "cache").iterdir()
    stamp = folder.stat().st_mtime_ns
    succeed("train", *flags, "--steps=2", cwd=tmp_path, R2N2_CACHE=str(tmp_path / "cache"))
    assert folder.stat().st_mtime_ns == stamp


def test_evaluate_scores_a_file_without_its_run(home, tree, tmp_path):
    flags = (f"--model_file={home / 'run' / 'model.keras'}", f"--data_dir={tree}")
    succeed("evaluate", *flags, "--workdir=scores", "--eval_views=1", cwd=tmp_path)
    evaluation = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    assert evaluation["split"] == "test"
    assert evaluation["samples"] == 4  # the last fifth of five models of each category


def test_synthesize_writes_the_official_tree(tmp_path):
    succeed(
        "synthesize", "--out=data", "--categories=chair", "--models_per_category=2", "--views=3",
        cwd=tmp_path,
    )  # fmt: skip
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*") if p.is_file())
    assert "data/ShapeNetRendering/03001627/chair_0001/rendering/02.png" in files
    assert "data/ShapeNetVox32/03001627/chair_0001/model.binvox" in files


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "predict", "export", "serve", "synthesize", "import_weights"]
)
def test_help_teaches(command, tmp_path):
    output = succeed(command, "--help", cwd=tmp_path)
    assert f"python -m r2n2_keras.{command} --" in output
    assert "--workdir: " in output
    assert max(map(len, output.splitlines())) <= 100


# Bad input: one line that says what was expected, what was received and what to do; exit code 1;
# nothing half-written.


def _copy(tree, tmp_path):
    """A data set that may be damaged, and its first training model."""
    data = tmp_path / "data"
    shutil.copytree(tree, data)
    return data, Path("03001627") / "chair_0000"


def test_missing_data_dir(tmp_path):
    line = fail("train", *TRAIN, "--data_dir=nowhere", cwd=tmp_path)
    assert "--data_dir=nowhere" in line
    assert not (tmp_path / "run").exists()


def test_tree_without_pairs(tree, tmp_path):
    data, _ = _copy(tree, tmp_path)
    for path in data.rglob("model.binvox"):
        path.unlink()
    assert "no such pair" in fail("train", *TRAIN, "--data_dir=data", cwd=tmp_path)
    assert not (tmp_path / "run").exists()


def test_truncated_png(tree, tmp_path):
    data, model = _copy(tree, tmp_path)
    for png in (data / "ShapeNetRendering" / model / "rendering").glob("*.png"):
        png.write_bytes(png.read_bytes()[:-40])
    line = fail("train", *TRAIN, "--data_dir=data", "--steps=20", cwd=tmp_path)
    # Whichever of them was drawn first.
    assert re.search(r"Expected a PNG, received \S+/chair_0000/rendering/0\d\.png", line)
    _assert_no_run_left_broken(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "received b'' (0 bytes)"),
        (b"#binvox 1\ndim 32 32 32\ndata\n\x00\x05", "run lengths that fill 32x32x32 cells"),
        (
            b"#binvox 1\ndim 16 16 16\ndata\n" + b"\x01\x80" * 32,
            "expected 32 cells along each axis",
        ),
        (b"#binvox 1\ndim 32 32 32\ndata\n" + b"\x00\x80" * 256, "without an occupied voxel"),
    ],
    ids=["empty", "broken", "another size", "no voxels"],
)
def test_bad_binvox(tree, tmp_path, content, message):
    data, model = _copy(tree, tmp_path)
    (data / "ShapeNetVox32" / model / "model.binvox").write_bytes(content)
    line = fail("train", *TRAIN, "--data_dir=data", "--steps=20", cwd=tmp_path)
    assert "chair_0000/model.binvox" in line
    assert message in line
    _assert_no_run_left_broken(tmp_path)


def _assert_no_run_left_broken(tmp_path):
    """What stands under a final name is whole."""
    assert [path for path in tmp_path.rglob("*partial*")] == []
    model = tmp_path / "run" / "model.keras"
    if model.exists():
        r2n2_keras.R2N2.from_preset(model)


def test_preset_that_does_not_exist(tree, tmp_path):
    flags = [flag for flag in TRAIN if not flag.startswith("--model=")]
    line = fail("train", *flags, f"--data_dir={tree}", "--model=huge", cwd=tmp_path)
    assert (
        "--model to be a preset (lstm_1, gru_1, lstm_3, gru_3, res_gru_3, notebook, tiny)" in line
    )
    assert "'huge'" in line
    assert not (tmp_path / "run").exists()


def test_workdir_of_another_preset(home, tree):
    before = sorted(path.name for path in (home / "run").iterdir())
    flags = [flag for flag in TRAIN if not flag.startswith("--model=")]
    line = fail("train", *flags, f"--data_dir={tree}", "--model=notebook", cwd=home)
    assert "--model=tiny, received --model=notebook" in line
    assert sorted(path.name for path in (home / "run").iterdir()) == before


def test_workdir_of_another_precision(home, tree):
    flags = (home / "run" / "flags.cfg").read_text()
    line = fail("train", *TRAIN, f"--data_dir={tree}", "--precision=mixed_float16", cwd=home)
    assert "--precision=float32, received --precision=mixed_float16" in line
    assert (home / "run" / "flags.cfg").read_text() == flags


def test_weights_that_train_would_not_start_from(tree, tmp_path):
    flags = (*TRAIN, f"--data_dir={tree}", "--weights=imported.keras")
    assert "--weights with import_weights only" in fail("train", *flags, cwd=tmp_path)


def test_batch_that_replicas_cannot_share(tree, tmp_path):
    flags = (*TRAIN, f"--data_dir={tree}", "--cpu_devices=2", "--batch_size=3")
    assert "multiple of the 2 replicas, received 3" in fail("train", *flags, cwd=tmp_path)
    assert not (tmp_path / "run").exists()


def test_zero_views(tree, tmp_path):
    line = fail("train", *TRAIN, f"--data_dir={tree}", "--num_views=0", cwd=tmp_path)
    assert "--num_views to be 1 to 9999" in line
    assert not (tmp_path / "run").exists()


def test_more_views_than_there_are(tree, home, tmp_path):
    line = fail("train", *TRAIN, f"--data_dir={tree}", "--num_views=25", cwd=tmp_path)
    assert "at least 25 renderings" in line
    line = fail("evaluate", "--workdir=run", "--eval_views=1,50", cwd=home)
    assert "at least 50 renderings" in line


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("train", ["--model=tiny"], "Expected --workdir=DIR"),
        ("evaluate", [], "Expected --workdir=DIR"),
        ("evaluate", ["--workdir=nowhere"], "nowhere/model.keras, which does not exist"),
        ("predict", ["--images=a.png"], "--workdir=DIR of a run or --model_file=FILE.keras"),
        (
            "predict",
            ["--model_file=m.h5", "--out=o", "--images=a.png"],
            "m.h5, which does not exist",
        ),
        (
            "predict",
            ["--model_file=tiny", "--out=o", "--images=a.png"],
            "tiny, which does not exist",
        ),
        ("predict", ["--workdir=w", "--formats=step"], "--formats among npz,binvox,png"),
        ("export", [], "--workdir=DIR of a run or --model_file=FILE.keras"),
        (
            "export",
            ["--model_file=m.keras", "--export_dir=gs://bucket/x"],
            "local or mounted folder",
        ),
        ("synthesize", [], "Expected --out=DIR"),
        ("synthesize", ["--out=o", "--categories=unicorn"], "unicorn"),
    ],
)
def test_what_a_command_needs(command, flags, message, tmp_path):
    assert message in fail(command, *flags, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_predict_with_files_that_are_no_pictures(home):
    (home / "notes.txt").write_text("not a picture")
    (home / "empty").mkdir(exist_ok=True)
    flags = ("--workdir=run", "--out=never")
    assert "notes.txt" in fail("predict", *flags, "--images=notes.txt", cwd=home)
    assert "no-such.png, which does not exist" in fail(
        "predict", *flags, "--images=no-such.png", cwd=home
    )
    assert "received none" in fail("predict", *flags, "--images=empty", cwd=home)
    assert not (home / "never").exists()


def test_a_model_file_that_is_no_model(home):
    (home / "broken.keras").write_bytes(b"PK\x03\x04 not a zip")
    line = fail("export", "--model_file=broken.keras", "--export_dir=never", cwd=home)
    assert "broken.keras, which is none or is damaged" in line
    assert not (home / "never").exists()
