"""Prepared data, splits by name, exclusions and bad samples, through the commands a user types."""

import json
import shutil

import pytest
from commands import TRAIN, fail, succeed

from r2n2_keras import config, datasets
from r2n2_keras.model.image_spec import ImageSpec
from r2n2_keras.model.r2n2 import R2N2


def _split(folder):
    return json.loads((folder / "run" / "split.json").read_text())


@pytest.mark.slow
def test_tree_and_prepared_data_train_and_score_the_same(tree, prepared_tree, tmp_path):
    """Batches, splits and so all numbers are the same, but for rounding."""
    results = {}
    for name, data in (("tree", tree), ("prepared", prepared_tree)):
        folder = tmp_path / name
        folder.mkdir()
        augmentation = ("--random_crop", "--random_flip", "--random_background=225,255")
        succeed("train", *TRAIN, *augmentation, f"--data_dir={data}", cwd=folder)
        printed = succeed("evaluate", "--workdir=run", "--eval_views=1,3", cwd=folder)
        assert "4 test models of the split r2n2" in printed
        results[name] = json.loads((folder / "run" / "evaluation.json").read_text())
        assert results[name]["split_rule"] == "r2n2"
        succeed("predict", "--workdir=run", "--formats=npz", cwd=folder)
    assert _split(tmp_path / "tree") == _split(tmp_path / "prepared")
    for one, other in zip(results["tree"]["rows"], results["prepared"]["rows"], strict=True):
        assert one["iou"] == pytest.approx(other["iou"], abs=2e-3)


def test_a_run_keeps_its_split_rule(tree, tmp_path):
    flags = (*TRAIN, f"--data_dir={tree}", "--steps=1", "--background=200", "--alpha=threshold")
    succeed("train", *flags, "--split=random", "--split_seed=3", cwd=tmp_path)
    assert _split(tmp_path)["split_rule"] == "random (seed 3)"
    assert R2N2.from_preset(tmp_path / "run").image_spec == ImageSpec(64, 3, 200, "threshold")
    line = fail("train", *flags, "--split=r2n2", cwd=tmp_path)
    assert "Expected the split random (seed 3), which run/split.json has, received r2n2" in line
    # Which models to score is said by the same flag and does not touch the rule.
    printed = succeed("evaluate", "--workdir=run", "--eval_views=1", "--split=val", cwd=tmp_path)
    assert "4 val models of the split random (seed 3)" in printed


def test_prepared_data_keep_their_split_rule(prepared_tree, tmp_path):
    flags = (*TRAIN, f"--data_dir={prepared_tree}", "--dry_run")
    assert "split r2n2" in succeed("train", *flags, "--split=r2n2", cwd=tmp_path)
    line = fail("train", *flags, "--split=random", cwd=tmp_path)
    assert "Expected the split r2n2" in line and "received random (seed 0)" in line


def _found(*flags):
    """The split rule and the names of the parts of the data that flags name."""
    data = datasets.find_data(config.parse(list(flags), "train"))
    return data.split_rule, {
        part: [o.name for o in objects] for part, objects in data.parts.items()
    }


def test_pix2vox_split(tree, tmp_path):
    chairs = sorted(path.name for path in (tree / "ShapeNetVox32" / "03001627").iterdir())
    category = {"taxonomy_id": "03001627", "train": chairs[2:], "val": chairs[:1]}
    split_file = tmp_path / "ShapeNet.json"
    split_file.write_text(json.dumps([{**category, "test": chairs[1:2]}]))
    flags = (f"--data_dir={tree}", "--split=pix2vox")
    rule, parts = _found(*flags, f"--split_file={split_file}")
    assert rule.startswith("pix2vox (ShapeNet.json, sha256 ")
    assert parts["test"] == [f"03001627/{chairs[1]}"] and len(parts["train"]) == 3
    line = fail("train", *TRAIN, *flags, cwd=tmp_path)
    assert "--split_file to be given with --split=pix2vox" in line


def test_excluded_models_are_left_out(tree, tmp_path):
    (tmp_path / "bad.txt").write_text("03001627/chair_0000  # broken\n04379243/table_0004\n")
    _, parts = _found(f"--data_dir={tree}", f"--exclude={tmp_path}/bad.txt")
    assert [len(parts[part]) for part in ("train", "val", "test")] == [11, 4, 3]
    names = [name for part in parts.values() for name in part]
    assert "03001627/chair_0000" not in names and "04379243/table_0004" not in names


_BAD = {
    "03001627/chair_0000": (b"", "received b'' (0 bytes)"),
    "03001627/chair_0001": (
        b"#binvox 1\ndim 32 32 32\ndata\n\x00\x05", "run lengths that fill 32x32x32 cells",
    ),
    "03636649/lamp_0000": (
        b"#binvox 1\ndim 16 16 16\ndata\n" + b"\x01\x80" * 32, "expected 32x32x32 cells",
    ),
    "04256520/sofa_0003": (
        b"#binvox 1\ndim 32 32 32\ndata\n" + b"\x00\x80" * 256, "received an empty grid",
    ),
}  # fmt: skip


@pytest.fixture
def damaged(tree, tmp_path):
    """The tree with broken models for training, one of them a picture, and one for validation."""
    data = shutil.copytree(tree, tmp_path / "damaged")
    for name, (content, _) in _BAD.items():
        (data / "ShapeNetVox32" / name / "model.binvox").write_bytes(content)
    for png in (data / "ShapeNetRendering/04379243/table_0001/rendering").glob("*.png"):
        png.write_bytes(png.read_bytes()[:-40])
    return data


def test_a_bad_sample_ends_training_in_a_line(damaged, tmp_path):
    line = fail("train", *TRAIN, "--steps=9", f"--data_dir={damaged}", cwd=tmp_path)
    # Whichever of them was drawn first.
    bad = [f"{name}/model.binvox" for name in _BAD] + ["table_0001/rendering/0"]
    assert any(name in line for name in bad)
    assert not list(tmp_path.rglob("*partial*"))
    model = tmp_path / "run" / "model.keras"
    if model.exists():
        R2N2.from_preset(model)


@pytest.mark.slow
def test_bad_samples_can_be_skipped_and_are_counted(damaged, tmp_path):
    flags = (*TRAIN, "--steps=4", f"--data_dir={damaged}", "--on_bad_sample=skip")
    printed = succeed("train", *flags, cwd=tmp_path)
    told = printed[printed.index("Left out 5 models with unusable files:") :].splitlines()
    for name, (_, message) in _BAD.items():
        assert any(f"{name}/model.binvox" in line and message in line for line in told)
    assert any("table_0001/rendering/0" in line for line in told)


def test_a_folder_that_prepare_did_not_finish(prepared_tree, tmp_path):
    data = shutil.copytree(prepared_tree, tmp_path / "unfinished")
    (data / "manifest.json").unlink()
    line = fail("train", *TRAIN, f"--data_dir={data}", cwd=tmp_path)
    assert "prepare" in line and str(data) in line
