"""The synthesised tree: layout, reproducibility, whole or not at all, the cache."""

import numpy as np
import pytest
from PIL import Image

from r2n2_keras.data import binvox
from r2n2_keras.errors import InputError
from r2n2_keras.shapes import dataset
from r2n2_keras.shapes.camera import Camera
from r2n2_keras.shapes.dataset import default_dataset, default_dir, synthesize

TWO = ("chair", "lamp")


def _files(root):
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree") / "data"
    return synthesize(root, TWO, models_per_category=2, num_views=3, processes=1)


def test_layout(tree):
    names = ("00.png", "01.png", "02.png", "renderings.txt", "rendering_metadata.txt")
    expected = set()
    for model in ("03001627/chair_000", "03636649/lamp_000"):
        for n in range(2):
            expected.add(f"ShapeNetVox32/{model}{n}/model.binvox")
            expected |= {f"ShapeNetRendering/{model}{n}/rendering/{name}" for name in names}
    assert set(_files(tree)) == expected


def test_files_say_what_they_should(tree):
    folder = tree / "ShapeNetRendering/03001627/chair_0001/rendering"
    assert (folder / "renderings.txt").read_text().split() == ["00.png", "01.png", "02.png"]
    lines = (folder / "rendering_metadata.txt").read_text().splitlines()
    assert len(lines) == 3
    voxels = binvox.read(tree / "ShapeNetVox32/03001627/chair_0001/model.binvox")
    assert voxels.dims == (32, 32, 32)
    points = ((np.argwhere(voxels.data) + 0.5) / 32 - 0.5) * voxels.scale
    for view, line in enumerate(lines):
        azimuth, elevation, yaw, distance, last = map(float, line.split())
        assert (yaw, last) == (0, 25) and 25 <= elevation <= 30 and 0.65 <= distance <= 0.95
        with Image.open(folder / f"{view:02d}.png") as picture:
            assert picture.mode == "RGBA" and picture.size == (137, 137)
            alpha = np.asarray(picture)[..., 3] > 0
        u, v = Camera(azimuth, elevation, distance).project(points).astype(int).T
        assert alpha[v, u].mean() > 0.9


def test_other_process_counts_write_the_same_bytes(tree, tmp_path):
    seen = []
    note = {"progress": lambda *done: seen.append(done)}
    other = synthesize(tmp_path / "other", TWO, 2, 3, processes=3, **note)
    assert _files(other) == _files(tree)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_larger_set_begins_with_the_smaller_one(tree, tmp_path):
    larger = _files(synthesize(tmp_path / "larger", ["lamp"], 3, 3, processes=1))
    smaller = {name: data for name, data in _files(tree).items() if "03636649" in name}
    assert smaller.items() <= larger.items() and len(larger) == 3 * 6


def test_another_seed_gives_other_models(tree, tmp_path):
    other = _files(synthesize(tmp_path / "other", TWO, 2, 3, seed=1, processes=1))
    name = "ShapeNetVox32/03001627/chair_0000/model.binvox"
    assert other[name] != _files(tree)[name]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"categories": ["chair", "boat"]}, "chair, table, sofa, lamp.*'boat'"),
        ({"categories": []}, "chair, table, sofa, lamp"),
        ({"models_per_category": 0}, "models_per_category of at least 1, received 0"),
        ({"num_views": 100}, "views from 1 to 99, received 100"),
        ({"seed": -1}, "seed of at least 0"),
        ({"processes": 0}, "processes of at least 1"),
    ],
)
def test_bad_settings_are_told_and_write_nothing(tmp_path, settings, words):
    with pytest.raises(InputError, match=words):
        synthesize(tmp_path / "data", **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "message"), [("", "not there yet"), ("note/x", "Expected to write")]
)
def test_what_is_there_is_left_alone(tmp_path, out, message):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(InputError, match=message):
        synthesize(tmp_path / out, ["chair"], 1, 1)
    assert (tmp_path / "note").read_text() == "mine"


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interruption_leaves_nothing(tmp_path, processes):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "data", ["chair"], 4, 1, processes=processes, progress=stop)
    assert not list(tmp_path.iterdir())


def test_a_failing_worker_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "WORKER", "raise SystemExit('no room')")
    with pytest.raises(InputError, match="no room"):
        synthesize(tmp_path / "data", ["chair"], 2, 1, processes=2)
    assert not list(tmp_path.iterdir())


def test_default_dataset_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("R2N2_CACHE", str(tmp_path))
    calls = []
    first = default_dataset(["lamp"], 1, progress=lambda *done: calls.append(done))
    again = default_dataset(["lamp"], 1, progress=lambda *done: calls.append(done))
    assert first == again and first.parent == tmp_path and calls == [(1, 1)]
    assert len(list(first.rglob("*.png"))) == 24


def test_other_settings_have_other_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("R2N2_CACHE", str(tmp_path))
    settings = (["lamp"], 1), (["lamp"], 2), (["chair", "lamp"], 1)
    assert len({default_dir(*one) for one in settings}) == 3
    monkeypatch.delenv("R2N2_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_dir(["lamp"], 1).parent == tmp_path / "xdg" / "r2n2_keras"


def test_the_loser_of_a_race_uses_the_winners_files(tmp_path, monkeypatch):
    monkeypatch.setenv("R2N2_CACHE", str(tmp_path))
    real = dataset.write_model

    def slow(root, category, index, num_views=24, seed=0):
        real(root, category, index, 1, seed)
        (winner / "won").mkdir(parents=True)

    monkeypatch.setattr(dataset, "write_model", slow)
    winner = tmp_path / f"furniture-v{dataset.FORMAT_VERSION}-1-lamp"
    assert default_dataset(["lamp"], 1) == winner
    assert list(tmp_path.rglob("*")) == [winner, winner / "won"]
