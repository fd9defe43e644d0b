"""The commands, run as a user runs them, from a folder of their own."""

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


def test_the_main_job_leaves_what_it_promises(home):
    names = {path.name for path in (home / "run").iterdir()}
    assert names == {
        "flags.cfg", "split.json", "checkpoints", "metrics.csv", "tensorboard", "curves.png",
        "model.keras", "evaluation.json", "evaluation.md", "examples.png", "prediction", "exports",
    }  # fmt: skip
    assert os.listdir(home / "run" / "exports") == ["1"]
    card = (home / "run" / "exports" / "1" / "assets.extra" / "model_card.md").read_text()
    assert "| 3 | 0." in card  # the run's scores
    assert not list(home.rglob("*partial*"))


def test_evaluation_is_of_models_that_were_held_out(home, tree):
    split = json.loads((home / "run" / "split.json").read_text())
    evaluation = json.loads((home / "run" / "evaluation.json").read_text())
    assert (evaluation["model"], evaluation["split"]) == ("tiny", "test")
    assert evaluation["samples"] == len(split["test"]) > 0
    assert not set(split["test"]) & set(split["train"] + split["val"])
    assert {(row["views"], row["threshold"]) for row in evaluation["summary"]} == {
        (views, threshold) for views in (1, 3) for threshold in (0.2, 0.3, 0.4, 0.5)
    }
    assert evaluation["step"] in (2, 3)


def test_the_python_api_gives_what_the_command_gave(home, tree):
    from r2n2_keras.data.photos import read_views
    from r2n2_keras.model.image_spec import ImageSpec

    (name, *_) = json.loads((home / "run" / "split.json").read_text())["test"]
    folder = tree / "ShapeNetRendering" / name / "rendering"
    pictures = [(f"{n}", (folder / f"0{n}.png").read_bytes()) for n in range(3)]
    views = read_views(pictures, ImageSpec(64, 3, 240))
    expected = r2n2_keras.R2N2.from_preset(home / "run").predict(views[None])[0]
    with np.load(home / "run" / "prediction" / "prediction.npz") as arrays:
        occupancy, voxels = arrays["occupancy"], arrays["voxels"]
    assert occupancy.shape == (32, 32, 32)
    assert occupancy.dtype == np.float32
    np.testing.assert_allclose(occupancy, expected, atol=1e-5)
    np.testing.assert_array_equal(voxels, occupancy > 0.4)
    binvox = r2n2_keras.binvox.read(home / "run" / "prediction" / "prediction.binvox")
    np.testing.assert_array_equal(binvox.data, voxels)


def test_pictures_of_ones_own(home, tmp_path):
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    sizes = {"0.jpg": (200, 120), "1.png": (64, 64), "side, left.bmp": (90, 90)}
    for name, size in sizes.items():
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    named = ",".join(f"photos/{name}" for name in sizes)
    answers = []
    for images, out in (("photos", "one"), (named, "two")):
        output = succeed(
            "predict", f"--model_file={home}/run/model.keras", f"--images={images}",
            f"--out={out}", "--formats=npz,binvox", "--threshold=0.3", cwd=tmp_path,
        )  # fmt: skip
        assert "3 views" in output
        assert sorted(os.listdir(tmp_path / out)) == ["prediction.binvox", "prediction.npz"]
        with np.load(tmp_path / out / "prediction.npz") as arrays:
            np.testing.assert_array_equal(arrays["voxels"], arrays["occupancy"] > 0.3)
            answers.append(arrays["occupancy"])
    np.testing.assert_array_equal(*answers)


def test_exporting_to_another_format(home, tmp_path):
    flags = (f"--workdir={home}/run", "--export_dir=files", "--format=litert")
    assert "Give --num_views=N" in fail("export", *flags, "--num_views=1..2", cwd=tmp_path)
    output = succeed("export", *flags, "--num_views=2", cwd=tmp_path)
    assert "Wrote files/model.tflite; checked with TensorFlow" in output
    assert os.listdir(tmp_path / "files") == ["model.tflite"]


@pytest.fixture
def copied(home, tmp_path):
    """The run of `home`, to be changed, in a folder with a blank in its name."""
    return shutil.copytree(home / "run", tmp_path / "my run")


def test_a_run_goes_on_by_its_folder_alone(copied, tree, tmp_path):
    saved, split = ((copied / name).read_text() for name in ("flags.cfg", "split.json"))
    assert f"--data_dir={tree}\n" in saved
    other = tmp_path / "other folder"
    other.mkdir()
    (other / "mine.cfg").write_text("--steps=4\n--seed=6\n--background=0\n")
    line = fail("train", "--flagfile=mine.cfg", f"--workdir={copied}", cwd=other)
    assert "--background=240 --seed=0, received --background=0 --seed=6. Leave them out" in line
    assert (copied / "flags.cfg").read_text() == saved

    data, model = shutil.copytree(tree, tmp_path / "data"), Path("03001627/chair_0000")
    for half in ("ShapeNetRendering", "ShapeNetVox32"):
        for n in range(9):  # ids that sort first: a fresh split would move every other model
            shutil.copytree(data / half / model, data / half / model.with_name(f"a{n}"))
    flags = (f"--workdir={copied}", "--steps=4", "--data_dir=../data")
    printed = succeed("train", *flags, cwd=other)
    assert "Going on at step 3 of 4." in printed
    assert printed.endswith(f"Next: python -m r2n2_keras.evaluate --workdir='{copied}'\n")
    assert (copied / "split.json").read_text() == split
    lines = zip(saved.splitlines(), (copied / "flags.cfg").read_text().splitlines(), strict=True)
    assert {new for old, new in lines if old != new} == {
        f"--workdir={copied}", "--steps=4", f"--data_dir={data}",
    }  # fmt: skip
    # A new one starts from its weights, in whatever folder.
    flags = (*TRAIN, f"--data_dir={tree}", "--dry_run", f"--init_from={copied}")
    assert "3 steps done" in succeed("train", *flags, cwd=other)


def test_other_data_do_not_spoil_a_run(copied, tree, tmp_path):
    shutil.copytree(tree, tmp_path / "fewer")
    shutil.rmtree(tmp_path / "fewer" / "ShapeNetVox32" / "03001627")
    names = ("split.json", "flags.cfg", "model.keras", "evaluation.json")
    before = {name: (copied / name).read_bytes() for name in names}
    line = fail("train", "--workdir=my run", "--categories=chair", cwd=tmp_path)
    assert "--categories=, received --categories=chair" in line
    assert "data without" in fail("train", "--workdir=my run", "--data_dir=fewer", cwd=tmp_path)
    flags = (*TRAIN, f"--data_dir={tree}", "--num_views=7", "--overwrite", "--workdir=my run")
    assert "at least 7 renderings" in fail("train", *flags, cwd=tmp_path)
    assert {name: (copied / name).read_bytes() for name in names} == before


def test_what_a_network_sees_is_said_by_its_file_alone(home, copied, tmp_path):
    with open(copied / "flags.cfg", "a") as file:
        file.write("--background=0\n--alpha=threshold\n")
    succeed("predict", "--workdir=my run", "--out=mine", "--formats=npz", cwd=tmp_path)
    folders = tmp_path / "mine", home / "run" / "prediction"
    one, other = (np.load(folder / "prediction.npz")["occupancy"] for folder in folders)
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_another_data_set_is_scored_whole(home, tmp_path):
    succeed(
        "synthesize", "--out=other", "--categories=04379243", "--models_per_category=2",
        "--views=3", "--seed=5", cwd=tmp_path,
    )  # fmt: skip
    own = (home / "run" / "evaluation.json").read_bytes()
    flags = (f"--workdir={home}/run", "--data_dir=other", "--eval_views=3", "--out=scores")
    line = fail("evaluate", *flags[:3], "--split=all", cwd=tmp_path)
    assert "for scores of other data than" in line and "Give --out=DIR" in line
    assert "received none of them" in fail("evaluate", *flags, "--split=val", cwd=tmp_path)
    # Table 0000 and 0001 have the names of training models: rename them.
    for folder in list((tmp_path / "other").glob("*/04379243/*")):
        folder.rename(folder.with_name(f"new_{folder.name}"))
    assert "received none of them" in fail("evaluate", *flags, cwd=tmp_path)
    wide = (*flags, "--split=all", "--eval_views=1,50")
    assert "at least 50 renderings" in fail("evaluate", *wide, cwd=tmp_path)
    assert not (tmp_path / "scores").exists()
    succeed("evaluate", *flags, "--split=all", cwd=tmp_path)
    evaluation = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    assert evaluation["samples"] == 2
    assert evaluation["summary"][0]["mean_shape_iou"] is None
    names = ["evaluation.json", "evaluation.md", "examples.png"]
    assert sorted(os.listdir(tmp_path / "scores")) == names
    assert (home / "run" / "evaluation.json").read_bytes() == own


def test_another_backend_is_refused(tmp_path):
    line = fail("train", *TRAIN, cwd=tmp_path, KERAS_BACKEND="jax")
    assert "KERAS_BACKEND=tensorflow, received jax" in line


def test_terminating_leaves_nothing_half_written(tmp_path):
    command = [sys.executable, "-m", "r2n2_keras.synthesize", "--out=data"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("partial-*.data/ShapeNetVox32/*/*/model.binvox")):
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert list(tmp_path.iterdir()) == []


def test_evaluate_scores_a_file_without_its_run(home, tree, tmp_path):
    flags = (f"--model_file={home / 'run' / 'model.keras'}", f"--data_dir={tree}")
    succeed("evaluate", *flags, "--out=scores", "--eval_views=1", cwd=tmp_path)
    evaluation = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    assert evaluation["split"] == "test"
    assert evaluation["samples"] == 4  # the last fifth of five models of each category


_WRONG = [
    ("train", "--model=tiny", "Expected --workdir=DIR"),
    ("train", "--workdir=run --data_dir=nowhere", "--data_dir=nowhere, which does not exist"),
    ("train", "--workdir=run --init_from=x", "a .keras file, received x, which does not exist"),
    ("train", "--workdir=run --split=val", "--split=r2n2|pix2vox|random of train"),
    ("evaluate", "", "Expected --workdir=DIR"),
    ("evaluate", "--out=scores", "--workdir=DIR of a run or --model_file=FILE.keras"),
    ("evaluate", "--workdir=nowhere", "nowhere/model.keras, which does not exist"),
    ("evaluate", "--model_file=x.keras --out=scores", "x.keras, which does not exist"),
    ("predict", "--images=a.png", "--workdir=DIR of a run or --model_file=FILE.keras"),
    ("predict", "--model_file=/ --out=o", "/, which is a folder"),
    ("predict", "--model_file=tiny --out=o", "tiny, which does not exist"),
    ("export", "", "--workdir=DIR of a run or --model_file=FILE.keras"),
    ("export", "--format=h5", "<tf_saved_model|onnx|litert>"),
    ("export", "--check=nowhere", "--check=nowhere, which does not exist"),
    ("serve", "", "Expected --export_dir=DIR"),
    ("prepare", "--out=o --renderings=x.tgz --voxels=x.tgz", "x.tgz, which does not exist"),
    ("prepare", "--out=o --data_dir=x", "--data_dir=x, which does not exist"),
    ("validate", "--data_dir=. --exclude=nowhere", "--exclude=nowhere, which does not exist"),
    ("validate", "--data_dir=nowhere", "--data_dir=nowhere, which does not exist"),
    ("synthesize", "", "Expected --out=DIR"),
    ("synthesize", "--out=o --views=1,2", "--views"),
    ("import_weights", "--source=theano --weights=x.npy --out=m.keras", "x.npy, which does not"),
    ("import_weights", "--swap_yz", "--source"),
]
_ONE_AFTER_ANOTHER = """
import contextlib, io, json, runpy, sys
for command, flags in json.load(sys.stdin):
    sys.argv = [command, *flags.split()]
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_module(f"r2n2_keras.{command}", run_name="__main__")
        except SystemExit as end:
            code = end.code
    heavy = [name for name in ("tensorflow", "keras", "matplotlib") if name in sys.modules]
    print(json.dumps([code, heavy, said.getvalue()]))
"""


def test_wrong_flags_help_and_synthesize_need_no_tensorflow(tmp_path):
    expected = {(command, flags): (1, message) for command, flags, message in _WRONG}
    for command in dict.fromkeys(command for command, _, _ in _WRONG):
        expected[command, "--workdir=~no-such-user/run"] = 1, "no-such-user"
        for flag in ("--help", "--helpfull"):
            expected[command, flag] = 0, f"python -m r2n2_keras.{command} --"
    expected["synthesize", "--out=data --models_per_category=1 --views=1"] = 0, "data"
    result = subprocess.run(
        [sys.executable, "-c", _ONE_AFTER_ANOTHER], input=json.dumps(list(expected)),
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    for line, (case, (code, message)) in zip(
        result.stdout.splitlines(), expected.items(), strict=True
    ):
        received, heavy, said = json.loads(line)
        assert (received, heavy) == (code, []), case
        assert message in said, (case, said)
        assert code == 0 or (said.startswith("error: ") and said.count("\n") == 1), case
    assert os.listdir(tmp_path) == ["data"]


# Bad input: one line that says what was expected, what was received and what to do; exit code 1;
# nothing half-written.


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--categories=chair,charr", "chair, lamp, sofa, table.*received charr"),
        ("--voxels_dir=ShapeNetRendering", "no such pair"),
        ("--callbacks=nowhere:callback", "nowhere:callback, which fails"),
        ("--workdir=/sys/run", "/sys/run"),
    ],
)
def test_what_train_cannot_begin_with(flag, message, tree, tmp_path):
    assert re.search(message, fail("train", *TRAIN, f"--data_dir={tree}", flag, cwd=tmp_path))
    assert not (tmp_path / "run").exists()


def test_files_that_are_no_pictures_and_no_models(home, tmp_path):
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "empty").mkdir()
    flags = (f"--workdir={home}/run", "--out=never")
    for images, message in (
        ("notes.txt", "notes.txt"),
        ("no-such.png", "no-such.png, which does not exist"),
        ("empty", "received none"),
        ("notes.txt,empty", "--images=empty, which is a folder"),
    ):
        assert message in fail("predict", *flags, f"--images={images}", cwd=tmp_path)
    line = fail("predict", *flags, "--images=notes.txt", "--formats=step", cwd=tmp_path)
    assert "--formats among npz,binvox,png" in line
    (tmp_path / "broken.keras").write_bytes(b"PK\x03\x04 not a zip")
    line = fail("export", "--model_file=broken.keras", "--export_dir=never", cwd=tmp_path)
    assert "broken.keras, which is no .keras file" in line
    assert not (tmp_path / "never").exists()
