"""Who is found in a data folder, and who is not."""

import os
import shutil

import pytest
from commands import refusal

from r2n2_keras.data.categories import SYNSET_IDS, category_of
from r2n2_keras.data.objects import Object
from r2n2_keras.data.trees import FileType, TreeFiles, list_objects, recognise

CHAIR, TABLE, OTHER = "03001627", "04379243", "00000042"
NAMES = [f"{OTHER}/x", f"{CHAIR}/a", f"{CHAIR}/z", f"{TABLE}/b"]


def _touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _write(root, name, views=("00", "01"), voxels=True):
    """A model whose files are empty: nothing is decoded here."""
    for view in views:
        _touch(root / "ShapeNetRendering" / name / "rendering" / f"{view}.png")
    if voxels:
        _touch(root / "ShapeNetVox32" / name / "model.binvox")


def _found(*args, **kwargs):
    return list_objects(*args, **kwargs)[0]


@pytest.fixture
def root(tmp_path):
    for name in reversed(NAMES):
        _write(tmp_path, name)
    return tmp_path


def test_objects_are_sorted_and_hold_their_paths(root):
    objects = _found(str(root))
    assert [one.name for one in objects] == NAMES
    files = TreeFiles(
        str(root / "ShapeNetRendering" / CHAIR / "a" / "rendering"),
        str(root / "ShapeNetVox32" / CHAIR / "a" / "model.binvox"),
    )
    assert objects[1] == Object(CHAIR, "a", ("00", "01"), files)
    assert [one.category for one in objects] == [OTHER, "chair", "chair", "table"]
    assert files.view_path("01") == f"{files.renderings_path}/01.png"


def test_real_objects_are_found(real_data):
    objects = _found(str(real_data))
    assert len(objects) == 8 and all(len(one.views) == 24 for one in objects)
    assert {one.category for one in objects} == {"airplane", "bench", "car", "chair"}


def test_stray_files_are_ignored(root):
    """Also pipes: to read one would never end."""
    expected = _found(str(root))
    folder = root / "ShapeNetRendering" / CHAIR / "a" / "rendering"
    for name in ("renderings.txt", "rendering_metadata.txt", "02.PNG", "02.png.partial", "x.png"):
        _touch(folder / name)
    for stray in ("README", "ShapeNetVox32/notes.txt", f"ShapeNetRendering/{CHAIR}/taxonomy.json"):
        _touch(root / stray)
    for name in ("taxonomy.json", "a/model.mat"):
        _touch(root / "ShapeNetVox32" / CHAIR / name)
    os.mkfifo(folder / "03.png")
    (folder / "04.png").symlink_to(folder / "03.png")
    _write(root, f"{CHAIR}/pipe", voxels=False)
    (root / "ShapeNetVox32" / CHAIR / "pipe").mkdir()
    os.mkfifo(root / "ShapeNetVox32" / CHAIR / "pipe" / "model.binvox")
    assert _found(str(root)) == expected


def test_a_broken_link_is_an_objects_rendering(root):
    """So that what is wrong with it is told."""
    folder = root / "ShapeNetRendering" / CHAIR / "a" / "rendering"
    (folder / "02.png").symlink_to("nowhere")
    one = _found(str(root))[1]
    assert one.views == ("00", "01", "02")
    with pytest.raises(FileNotFoundError):
        one.files.read_view("02")


def test_objects_that_lack_a_half_are_left_out(root):
    expected = _found(str(root))
    for name in (f"{CHAIR}/no_voxels", f"{CHAIR}/no_binvox", "02691156/only_rendered"):
        _write(root, name, voxels=False)
    (root / "ShapeNetVox32" / CHAIR / "no_binvox").mkdir()
    for name in ("no_views", "no_renderings"):
        _write(root, f"{CHAIR}/{name}", views=())
    (root / "ShapeNetRendering" / CHAIR / "no_views" / "rendering").mkdir(parents=True)
    objects, keys = list_objects(str(root))
    assert objects == expected
    # The split counts what has voxels, as the original's does.
    lacking = {(CHAIR, "no_views"), (CHAIR, "no_renderings")}
    assert set(keys) == {one.key for one in objects} | lacking


def test_other_folders_and_other_views(root):
    """Gaps, and more than a hundred of them."""
    _write(root, f"{TABLE}/many", views=("00", "07", "23", "100"))
    (root / "ShapeNetRendering").rename(root / "views")
    (root / "ShapeNetVox32").rename(root / "grids")
    objects = _found(f"{root}/", "views", "grids")
    assert [one.name for one in objects] == [*NAMES, f"{TABLE}/many"]
    assert sorted(objects[-1].views) == ["00", "07", "100", "23"]


@pytest.mark.parametrize(
    ("categories", "names"),
    [
        (["chair"], NAMES[1:3]),
        ([TABLE], NAMES[3:]),
        (["table", OTHER, TABLE], [NAMES[0], NAMES[3]]),
        ([], NAMES),
    ],
)
def test_categories_by_name_or_synset_id(root, categories, names):
    assert [one.name for one in _found(str(root), categories=categories)] == names


# What is told, in one line.


def test_a_missing_folder_is_told(root):
    absent = root / "absent"
    assert f"--data_dir={absent}: there is no folder {absent}." in refusal(
        list_objects, str(absent)
    )
    _touch(root / "file")
    assert "there is no folder" in refusal(list_objects, str(root / "file"))
    for name in ("ShapeNetRendering", "ShapeNetVox32"):
        folder = (root / name).rename(root / "elsewhere")
        words = f"received --data_dir={root}: there is no folder {root / name}."
        assert words in refusal(list_objects, str(root))
        folder.rename(root / name)


def test_a_name_that_is_no_text_is_told(root):
    folder = root / "ShapeNetRendering" / CHAIR / "a" / "rendering"
    with open(bytes(folder) + b"/\xff.png", "wb"):
        pass
    words = rf"Expected names of files in UTF-8 in {folder}, received b'\xff.png'. Rename or"
    assert words in refusal(list_objects, str(root))


def test_no_pair_is_told(root):
    words = f"Expected --categories out of {OTHER}, chair, table (or their synset ids), which "
    words += f"{root}/ShapeNetVox32 holds, received lamp, sofa. Change it."
    assert words in refusal(list_objects, str(root), categories=["lamp", "chair", "sofa"])
    shutil.rmtree(root / "ShapeNetVox32")
    (root / "ShapeNetVox32").mkdir()
    assert "Expected models with NN.png renderings in " in refusal(list_objects, str(root))


def test_category_names():
    assert len(SYNSET_IDS) == len(set(SYNSET_IDS.values())) == 13
    for category, synset_id in SYNSET_IDS.items():
        assert category_of(synset_id) == category
        assert len(synset_id) == 8 and synset_id.isdecimal()
    assert category_of(OTHER) == OTHER


@pytest.mark.parametrize(
    ("name", "file_type", "key", "view"),
    [
        ("ShapeNetRendering/a/b/rendering/00.png", FileType.VIEW, ("a", "b"), "00"),
        ("./a/b/rendering/123.png", FileType.VIEW, ("a", "b"), "123"),
        ("x/./y//a/b/rendering/07.png", FileType.VIEW, ("a", "b"), "07"),
        ("a/b/rendering/rendering_metadata.txt", FileType.CAMERAS, ("a", "b"), ""),
        ("a/b/rendering/renderings.txt", FileType.LIST, ("a", "b"), ""),
        ("data/ShapeNetVox32/a/b/model.binvox", FileType.VOXELS, ("a", "b"), ""),
        ("ShapeNetRendering/rendering_only.tgz", FileType.ARCHIVE, (), ""),
        ("a/b/rendering/0.png", FileType.OTHER, (), ""),
        ("a/b/rendering/00.PNG", FileType.OTHER, (), ""),
        ("a/b/rendering/._00.png", FileType.OTHER, (), ""),
        ("./b/rendering/00.png", FileType.OTHER, (), ""),
        ("a/b/00.png", FileType.OTHER, (), ""),
        ("b/model.binvox", FileType.OTHER, (), ""),
        ("a/b/model.mat", FileType.OTHER, (), ""),
        ("a/b\n/model.binvox", FileType.OTHER, (), ""),
        ("a/b\x1b[2J/rendering/00.png", FileType.OTHER, (), ""),
        (f"a/{'b' * 201}/model.binvox", FileType.OTHER, (), ""),
        ("", FileType.OTHER, (), ""),
    ],
)
def test_files_are_known_by_the_end_of_their_path(name, file_type, key, view):
    assert recognise(name) == (file_type, key, view)
