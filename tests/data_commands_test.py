"""Prepared data, splits by name, exclusions and bad samples, through the commands a user types."""

import json
import re
import shutil
import tarfile

import pytest
from commands import TRAIN, fail, process, succeed


def _split(folder):
    return json.loads((folder / "run" / "split.json").read_text())


@pytest.fixture(scope="module")
def archives(tree, tmp_path_factory):
    """The tree as the two archives."""
    folder = tmp_path_factory.mktemp("archives")
    for name in ("ShapeNetRendering", "ShapeNetVox32"):
        with tarfile.open(folder / f"{name}.tgz", "w:gz") as archive:
            archive.add(tree / name, name)
    return folder


@pytest.fixture(scope="module")
def prepared(archives, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    succeed(
        "prepare",
        f"--renderings={archives}/ShapeNetRendering.tgz",
        f"--voxels={archives}/ShapeNetVox32.tgz",
        "--out=data",
        cwd=folder,
        how=process,
    )
    return folder / "data"


@pytest.mark.slow
def test_tree_and_prepared_data_train_and_score_the_same(tree, prepared, tmp_path):
    """Batches, splits and so all numbers are the same, but for rounding."""
    results = {}
    for name, data in (("tree", tree), ("prepared", prepared)):
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
    data = f"--data_dir={tree}"
    succeed("train", *TRAIN, data, "--split=random", "--split_seed=3", cwd=tmp_path)
    assert _split(tmp_path)["split_rule"] == "random (seed 3)"
    printed = succeed("evaluate", "--workdir=run", "--eval_views=1", cwd=tmp_path)
    assert "4 test models of the split random (seed 3)" in printed
    line = fail("train", *TRAIN, data, "--split=r2n2", cwd=tmp_path)
    assert "Expected the split random (seed 3), which run/split.json has, received r2n2" in line
    # Which models to score is said by the same flag and does not touch the rule.
    printed = succeed("evaluate", "--workdir=run", "--eval_views=1", "--split=val", cwd=tmp_path)
    assert "4 val models of the split random (seed 3)" in printed


def test_prepared_data_keep_their_split_rule(prepared, tmp_path):
    flags = (*TRAIN, f"--data_dir={prepared}", "--dry_run")
    assert "split r2n2" in succeed("train", *flags, "--split=r2n2", cwd=tmp_path)
    line = fail("train", *flags, "--split=random", cwd=tmp_path)
    assert "Expected the split r2n2" in line and "received random (seed 0)" in line


def test_pix2vox_split(tree, tmp_path):
    chairs = sorted(path.name for path in (tree / "ShapeNetVox32" / "03001627").iterdir())
    category = {"taxonomy_id": "03001627", "train": chairs[2:], "val": chairs[:1]}
    split_file = tmp_path / "ShapeNet.json"
    split_file.write_text(json.dumps([{**category, "test": chairs[1:2]}]))
    flags = (*TRAIN, f"--data_dir={tree}", "--split=pix2vox")
    succeed("train", *flags, f"--split_file={split_file}", cwd=tmp_path)
    split = _split(tmp_path)
    assert re.fullmatch(r"pix2vox \(ShapeNet\.json, sha256 [0-9a-f]{8}\)", split["split_rule"])
    assert split["test"] == [f"03001627/{chairs[1]}"] and len(split["train"]) == 3
    flags = (*flags[:-1], "--split=r2n2", f"--split_file={split_file}", "--workdir=new")
    assert "--split_file to be given with --split=pix2vox" in fail("train", *flags, cwd=tmp_path)


def test_excluded_models_are_left_out(tree, tmp_path):
    (tmp_path / "bad.txt").write_text("03001627/chair_0000  # broken\n04379243/table_0004\n")
    flags = (*TRAIN, f"--data_dir={tree}", "--exclude=bad.txt")
    assert "11 train, 4 val, 3 test" in succeed("train", *flags, cwd=tmp_path)
    split = _split(tmp_path)
    names = split["train"] + split["val"] + split["test"]
    assert "03001627/chair_0000" not in names and "04379243/table_0004" not in names


@pytest.fixture
def damaged(tree, tmp_path):
    """The tree with a broken training model and a broken validation model."""
    data = shutil.copytree(tree, tmp_path / "damaged")
    for name in ("03001627/chair_0001", "04256520/sofa_0003"):
        path = data / "ShapeNetVox32" / name / "model.binvox"
        path.write_bytes(path.read_bytes()[:-1])
    return data


def test_a_bad_sample_ends_training_in_a_line(damaged, tmp_path):
    line = fail("train", *TRAIN, "--steps=9", f"--data_dir={damaged}", cwd=tmp_path)
    assert "chair_0001/model.binvox: expected run lengths" in line or "sofa_0003" in line


def test_bad_samples_can_be_skipped_and_are_counted(damaged, tmp_path):
    flags = (*TRAIN, "--steps=4", f"--data_dir={damaged}", "--on_bad_sample=skip")
    printed = succeed("train", *flags, cwd=tmp_path)
    told = printed[printed.index("Left out 2 models with unusable files:") :]
    assert "chair_0001/model.binvox" in told and "sofa_0003/model.binvox" in told


def test_a_folder_that_prepare_did_not_finish(prepared, tmp_path):
    data = shutil.copytree(prepared, tmp_path / "unfinished")
    (data / "manifest.json").unlink()
    line = fail("train", *TRAIN, f"--data_dir={data}", cwd=tmp_path)
    assert "prepare" in line and str(data) in line
