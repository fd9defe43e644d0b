"""Who is found in a data folder, and who is not."""

import shutil
from pathlib import Path

import pytest

from r2n2_keras.data.categories import SYNSET_IDS, category_of
from r2n2_keras.data.objects import Object
from r2n2_keras.data.trees import TreeFiles
from r2n2_keras.data.trees import list_objects as list_objects_and_keys
from r2n2_keras.errors import InputError

CHAIR, TABLE, OTHER = "03001627", "04379243", "00000042"


def list_objects(*args, **kwargs):
    return list_objects_and_keys(*args, **kwargs)[0]


def _write(root, synset_id, model_id, views=("00", "01"), voxels=True):
    """A model whose files are empty: nothing is decoded here."""
    folder = root / "ShapeNetRendering" / synset_id / model_id / "rendering"
    folder.mkdir(parents=True)
    for view in views:
        (folder / f"{view}.png").touch()
    if voxels:
        folder = root / "ShapeNetVox32" / synset_id / model_id
        folder.mkdir(parents=True)
        (folder / "model.binvox").touch()


def _keys(models):
    return [model.name for model in models]


@pytest.fixture
def root(tmp_path):
    for synset_id, model_id in ((TABLE, "b"), (CHAIR, "z"), (CHAIR, "a"), (OTHER, "x")):
        _write(tmp_path, synset_id, model_id)
    return tmp_path


def test_models_are_sorted_and_hold_their_paths(root):
    models = list_objects(str(root))
    assert _keys(models) == [f"{OTHER}/x", f"{CHAIR}/a", f"{CHAIR}/z", f"{TABLE}/b"]
    files = TreeFiles(
        str(root / "ShapeNetRendering" / CHAIR / "a" / "rendering"),
        str(root / "ShapeNetVox32" / CHAIR / "a" / "model.binvox"),
    )
    assert models[1] == Object(CHAIR, "a", ("00", "01"), files)
    assert [model.category for model in models] == [OTHER, "chair", "chair", "table"]
    assert files.view_path("01") == f"{files.renderings}/01.png"


def test_the_synthesised_set_is_found_whole(tree):
    models = list_objects(str(tree))
    assert len(models) == 20
    assert {model.category for model in models} == {"chair", "table", "sofa", "lamp"}
    for model in models:
        assert model.views == tuple(f"{view:02d}" for view in range(6))


def test_real_models_are_found(real_data):
    models = list_objects(str(real_data))
    assert len(models) == 8
    assert {model.category for model in models} == {"airplane", "bench", "car", "chair"}
    assert all(len(model.views) == 24 for model in models)


def test_stray_files_are_ignored(root):
    expected = list_objects(str(root))
    folder = root / "ShapeNetRendering" / CHAIR / "a" / "rendering"
    for name in ("renderings.txt", "rendering_metadata.txt", "02.PNG", "02.png.partial", "x.png"):
        (folder / name).touch()
    for stray in ("README", "ShapeNetVox32/notes.txt", f"ShapeNetVox32/{CHAIR}/taxonomy.json"):
        (root / stray).touch()
    (root / "ShapeNetVox32" / CHAIR / "a" / "model.mat").touch()
    (root / "ShapeNetRendering" / CHAIR / "taxonomy.json").touch()
    assert list_objects(str(root)) == expected


def test_models_that_lack_a_half_are_left_out(root):
    expected = list_objects(str(root))
    _write(root, CHAIR, "no_voxels", voxels=False)
    _write(root, CHAIR, "no_views", views=())
    (root / "ShapeNetVox32" / CHAIR / "no_renderings").mkdir()
    (root / "ShapeNetVox32" / CHAIR / "no_renderings" / "model.binvox").touch()
    _write(root, CHAIR, "no_binvox")
    (root / "ShapeNetVox32" / CHAIR / "no_binvox" / "model.binvox").unlink()
    _write(root, "02691156", "only_rendered", voxels=False)
    models, keys = list_objects_and_keys(str(root))
    assert models == expected
    # The split counts what has voxels, as the original's does.
    lacking = {(CHAIR, "no_views"), (CHAIR, "no_renderings")}
    assert set(keys) == {model.key for model in models} | lacking


def test_more_than_a_hundred_views_and_gaps(root):
    _write(root, TABLE, "many", views=("00", "07", "23", "100"))
    (many,) = [model for model in list_objects(str(root)) if model.model_id == "many"]
    assert sorted(many.views) == ["00", "07", "100", "23"]


@pytest.mark.parametrize(
    ("categories", "keys"),
    [
        (["chair"], [f"{CHAIR}/a", f"{CHAIR}/z"]),
        ([TABLE], [f"{TABLE}/b"]),
        (["table", OTHER], [f"{OTHER}/x", f"{TABLE}/b"]),
        (["chair", CHAIR], [f"{CHAIR}/a", f"{CHAIR}/z"]),
        ([], [f"{OTHER}/x", f"{CHAIR}/a", f"{CHAIR}/z", f"{TABLE}/b"]),
    ],
)
def test_categories_by_name_or_synset_id(root, categories, keys):
    assert _keys(list_objects(str(root), categories=categories)) == keys


def test_folders_may_have_other_names(root):
    (root / "ShapeNetRendering").rename(root / "views")
    (root / "ShapeNetVox32").rename(root / "grids")
    assert len(list_objects(f"{root}/", "views", "grids")) == 4


def _one_line(*args, **kwargs):
    with pytest.raises(InputError) as caught:
        list_objects(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_missing_folder_is_told(root):
    absent = str(root / "absent")
    message = _one_line(absent)
    assert f"--data_dir={absent}: there is no folder {absent}." in message
    for name in ("ShapeNetRendering", "ShapeNetVox32"):
        (root / name).rename(root / "elsewhere")
        message = _one_line(str(root))
        assert f"received --data_dir={root}: there is no folder {root / name}." in message
        (root / "elsewhere").rename(root / name)


def test_a_file_for_a_folder_is_told(tmp_path):
    (tmp_path / "file").touch()
    assert "there is no folder" in _one_line(str(tmp_path / "file"))


def test_a_name_that_is_no_text_is_told(root):
    folder = root / "ShapeNetRendering" / CHAIR / "a" / "rendering"
    with open(bytes(folder) + b"/\xff.png", "wb"):
        pass
    assert _one_line(str(root)) == (
        rf"Expected names of files in UTF-8 in {folder}, received b'\xff.png'. Rename or remove "
        "that file."
    )


def test_no_pair_is_told(root):
    message = _one_line(str(root), categories=["lamp", "chair", "sofa"])
    assert "Expected --categories out of " in message
    assert "received lamp, sofa. Change it." in message
    shutil.rmtree(root / "ShapeNetVox32")
    (root / "ShapeNetVox32").mkdir()
    assert _one_line(str(root)).startswith("Expected models with NN.png renderings in ")


def test_files_are_read_and_named(tree):
    for model in list_objects(str(tree))[::6]:
        assert model.files.read_view("03") == Path(model.files.view_path("03")).read_bytes()
        assert model.files.read_voxels() == Path(model.files.voxels_path).read_bytes()


def test_category_names():
    assert len(SYNSET_IDS) == len(set(SYNSET_IDS.values())) == 13
    for category, synset_id in SYNSET_IDS.items():
        assert category_of(synset_id) == category
        assert len(synset_id) == 8 and synset_id.isdecimal()
    assert category_of("00000042") == "00000042"
