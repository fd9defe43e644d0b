"""What validation finds: everything that was broken on purpose, and nothing in sound data."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import packed
import pytest
import tensorflow as tf
from commands import refusal
from PIL import Image

from r2n2_keras.data import remote, splits
from r2n2_keras.data.categories import SYNSET_IDS, category_of
from r2n2_keras.data.trees import list_objects
from r2n2_keras.errors import InputError
from r2n2_keras.preparation.checker import Kind
from r2n2_keras.preparation.validation import Report, validate, write_fix_list

CHAIR, TABLE, LAMP, SOFA = (SYNSET_IDS[name] for name in ("chair", "table", "lamp", "sofa"))
RENDERINGS, VOXELS = "ShapeNetRendering", "ShapeNetVox32"
HEADER = b"#binvox 1\ndim 32 32 32\ndata\n"
SMALL_GRID = HEADER.replace(b"32", b"16") + b"\x01\x80" * 32
EMPTY_GRID = HEADER + b"\x00\x80" * 256


def _id(synset_id, number):
    return f"{synset_id}/{category_of(synset_id)}_{number:04d}"


def _views(synset_id, number):
    return f"{RENDERINGS}/{_id(synset_id, number)}/rendering"


def _png(synset_id, number, view):
    return f"{_views(synset_id, number)}/{view:02d}.png"


def _binvox(synset_id, number):
    return f"{VOXELS}/{_id(synset_id, number)}/model.binvox"


@pytest.fixture
def data(tree, tmp_path):
    """A copy of the synthesised set."""
    return shutil.copytree(tree, tmp_path / "data")


@pytest.fixture
def prepared(prepared_tree, tmp_path):
    """A copy of the prepared set."""
    return shutil.copytree(prepared_tree, tmp_path / "data")


def _found(data, **settings):
    """(kind, path inside the data, text, model) of every finding."""
    return [
        (one.kind, one.path.replace(f"{data}/", ""), one.text, one.key and "/".join(one.key))
        for one in validate(str(data), **settings).findings
    ]


# Sound data.


@pytest.mark.parametrize("name", ["tree", "prepared_tree"])
def test_sound_data(name, request):
    data = request.getfixturevalue(name)
    steps = []
    report = validate(str(data), progress=lambda *step: steps.append(step))
    models = dict.fromkeys([CHAIR, LAMP, SOFA, TABLE], 5)
    assert report == Report(models, dict.fromkeys(models, 30), findings=[], others=[])
    total = 20 + len(list(data.glob("*.tfrecord")))
    assert steps == [(done, total) for done in range(1, total + 1)]


def test_real_data(real_data):
    report = validate(str(real_data))
    assert (report.findings, report.others) == ([], [])
    assert sum(report.models.values()) == 8
    assert sum(report.renderings.values()) == 192


def test_looks_at_the_models_that_training_finds(data):
    shutil.rmtree(data / _views(CHAIR, 0))
    (data / _binvox(CHAIR, 1)).unlink()
    models, _ = list_objects(str(data))
    bad = validate(str(data)).bad_models()
    everyone = {path.parts[-2:] for path in (data / VOXELS).glob("*/*")}
    assert {model.key for model in models} == everyone - bad.keys()


# One thing broken.


def _written(content):
    return lambda path: path.write_bytes(content)


def _picture(change):
    def damage(path):
        with Image.open(path) as picture:
            change(picture.copy()).save(path)

    return damage


def _without_parent(path):
    shutil.rmtree(path.parent)


def _replaced(make):
    def damage(path):
        path.unlink()
        make(path)

    return damage


PNG, BINVOX = _png(SOFA, 0, 0), _binvox(TABLE, 3)
NO_VIEWS = "expected renderings NN.png for the voxels, received none"
NO_VOXELS = "expected voxels for the renderings, received none"
TOO_LARGE = "expected a file of at most 16777216 bytes, received one of 1099511627776"

# The kind of what is found, the path that it names, what was done to that, what is said.
DAMAGES = {
    "no renderings folder": (Kind.PARTNER, _views(CHAIR, 1), _without_parent, NO_VIEWS),
    "renderings folder empty": (
        Kind.PARTNER, _views(CHAIR, 1), lambda path: [view.unlink() for view in path.iterdir()],
        NO_VIEWS,
    ),
    "no binvox": (Kind.PARTNER, _binvox(CHAIR, 1), Path.unlink, NO_VOXELS),
    "a view gone": (
        Kind.VIEWS, _views(LAMP, 2), lambda path: (path / "03.png").unlink(),
        "expected 6 views, received 5, without 03",
    ),
    "a gap": (
        Kind.VIEWS, _views(LAMP, 2), lambda path: (path / "03.png").rename(path / "06.png"),
        "expected 6 views, received 6, without 03 and with 06",
    ),
    "empty PNG": (Kind.PNG, PNG, _written(b""), "expected a PNG, received an empty file"),
    "zip bomb": (
        Kind.PNG, PNG, _written(packed.png(width=100_000)),
        "expected a PNG of 1 to 4096 pixels along each edge, received one of 100000x137",
    ),
    "another size": (
        Kind.MODE, PNG, _picture(lambda picture: picture.resize((127, 127))),
        "expected 137x137 RGBA as most are, received 127x127 RGBA",
    ),
    "no alpha": (
        Kind.MODE, PNG, _picture(lambda picture: picture.convert("RGB")),
        "expected 137x137 RGBA as most are, received 137x137 RGB",
    ),
    "no binvox header": (
        Kind.BINVOX, BINVOX, _written(b"#binvax 1\n"),
        "expected a binvox file that begins with '#binvox 1', received b'#binvax 1\\n'",
    ),
    "runs too short": (
        Kind.BINVOX, BINVOX, _written(HEADER + b"\x01\x05"),
        "expected run lengths that fill 32x32x32 cells, received 2 bytes for 5 cells",
    ),
    "huge dims": (
        Kind.BINVOX, BINVOX, _written(HEADER.replace(b"32", b"10000") + b"\x01\xff" * 1000),
        "cells, received 'dim 10000 10000 10000'",
    ),
    "other dims": (
        Kind.DIMS, BINVOX, _written(SMALL_GRID),
        "expected 32x32x32 cells, which the networks predict, received 16x16x16",
    ),
    "empty grid": (Kind.EMPTY, BINVOX, _written(EMPTY_GRID), "received an empty grid"),
    "folder as PNG": (Kind.UNREADABLE, PNG, _replaced(Path.mkdir), "expected to read it"),
    "pipe": (Kind.UNREADABLE, PNG, _replaced(os.mkfifo), "expected to read it"),
    "large PNG": (Kind.UNREADABLE, PNG, lambda path: os.truncate(path, 2**40), TOO_LARGE),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_one_thing_broken(data, name):
    kind, path, damage, text = DAMAGES[name]
    damage(data / path)
    report = validate(str(data))
    (found,) = report.findings
    assert (found.kind, found.path) == (kind, f"{data}/{path}")
    assert text in found.text
    assert found.key == tuple(path.split("/")[1:3])
    is_note = kind in (Kind.VIEWS, Kind.MODE)
    assert (report.errors, report.notes) == (([], [found]) if is_note else ([found], []))
    assert bool(report.bad_models()) is not is_note


def test_findings_are_sorted_and_the_same_each_time(data):
    for target in (_binvox(TABLE, 3), _png(SOFA, 0, 0), _png(SOFA, 0, 4), _binvox(CHAIR, 2)):
        (data / target).write_bytes(b"")
    first = _found(data)
    assert [path for _, path, _, _ in first] == [
        _binvox(CHAIR, 2), _png(SOFA, 0, 0), _png(SOFA, 0, 4), _binvox(TABLE, 3),
    ]  # fmt: skip
    assert first == _found(data)


# What is usual.


def test_pictures_of_another_size_are_sound_where_most_have_it(data):
    for path in data.rglob("*.png"):
        with Image.open(path) as picture:
            picture.resize((40, 30)).convert("RGB").save(path)
    assert _found(data) == []


def test_a_grid_that_no_network_predicts_is_an_error_in_all_models_too(data):
    for path in data.rglob("model.binvox"):
        path.write_bytes(SMALL_GRID)
    assert [kind for kind, *_ in _found(data)] == [Kind.DIMS] * 20


def test_data_of_other_views_are_sound(data):
    for path in data.rglob("0[135].png"):
        path.unlink()
    assert _found(data) == _found(data, num_views=3) == []
    for num_views, kind, text in (
        (2, Kind.VIEWS, "expected 2 views, received 3, without 01 and with 02, 04"),
        (6, Kind.TOO_FEW, "expected 6 views, received 3, without 01, 03, 05"),
        (24, Kind.TOO_FEW, "expected 24 views, received 3, without 01, 03, 05, 06, 07 ..."),
    ):
        found = {(found[0], found[2]) for found in _found(data, num_views=num_views)}
        assert found == {(kind, text)}


def test_where_models_differ_evenly_one_lost_a_view(data):
    for model in data.glob("*/*/*"):
        if model.name not in ("chair_0000", "chair_0001"):
            shutil.rmtree(model)
    (data / _png(CHAIR, 0, 2)).unlink()
    assert [path for _, path, _, _ in _found(data)] == [_views(CHAIR, 0)]


# Duplicates.


def _same_as(data, path):
    return f"expected content of its own, received that of {data}/{path}"


def test_same_rendering_of_two_models(data):
    shutil.copy(data / _png(LAMP, 0, 1), data / _png(CHAIR, 4, 2))
    # Sorted by synset id the chair, 03001627, is first: the lamp goes.
    found = (Kind.SAME_PNG, _png(LAMP, 0, 1), _same_as(data, _png(CHAIR, 4, 2)), _id(LAMP, 0))
    assert _found(data) == [found]


def test_same_voxels(data):
    for number in (1, 3):
        shutil.copy(data / _binvox(SOFA, 0), data / _binvox(SOFA, number))
    assert _found(data) == [
        (Kind.SAME_VOXELS, _binvox(SOFA, n), _same_as(data, _binvox(SOFA, 0)), _id(SOFA, n))
        for n in (1, 3)
    ]
    assert _found(data, excluded={(SOFA, "sofa_0000"), (SOFA, "sofa_0003")}) == []


def test_broken_files_and_the_same_picture_in_other_bytes_are_no_duplicates(data):
    for number in (0, 1):
        (data / _png(SOFA, number, 0)).write_bytes(b"")
        (data / _binvox(SOFA, number)).write_bytes(EMPTY_GRID)
    with Image.open(data / _png(LAMP, 0, 1)) as picture:
        picture.save(data / _png(LAMP, 0, 5), compress_level=0)
    assert {kind for kind, *_ in _found(data)} == {Kind.PNG, Kind.EMPTY}


# Choices.


def test_excluded_models_are_passed_over(data):
    (data / _png(LAMP, 2, 3)).write_bytes(b"")
    (data / _binvox(CHAIR, 1)).unlink()
    excluded = {(LAMP, "lamp_0002"), (CHAIR, "chair_0001"), (CHAIR, "never_was")}
    report = validate(str(data), excluded=excluded)
    assert report.findings == []
    assert report.models == {CHAIR: 4, LAMP: 4, SOFA: 5, TABLE: 5}


def test_categories(data):
    (data / _png(LAMP, 2, 3)).write_bytes(b"")
    assert _found(data, categories=["chair", TABLE]) == []
    assert len(_found(data, categories=["lamp"])) == 1
    with pytest.raises(InputError, match="Expected --categories out of chair, lamp, sofa, table"):
        validate(str(data), categories=["unicorn"])


def test_folders_of_other_names(data):
    (data / RENDERINGS).rename(data / "views")
    (data / VOXELS).rename(data / "grids")
    assert _found(data, renderings_dir="views", voxels_dir="grids") == []


# Models in two splits.


def test_models_in_two_splits(tree, tmp_path):
    ids = [f"sofa_{number:04d}" for number in range(5)]
    parts = {"train": ids[:4], "val": ids[3:4], "test": [ids[0], ids[4]]}
    file = tmp_path / "s.json"
    file.write_text(json.dumps([{"taxonomy_id": SOFA, **parts}]))
    text = "expected a model in one split, received it in"
    assert _found(tree, split_file=str(file)) == [
        (Kind.SPLITS, f"{SOFA}/sofa_0000 in {file}", f"{text} test and train", None),
        (Kind.SPLITS, f"{SOFA}/sofa_0003 in {file}", f"{text} train and val", None),
    ]
    file.write_text("{}")
    assert str(file) in refusal(validate, str(tree), split_file=str(file))


# Files that are anyone's.


def test_other_files_are_counted(data):
    sofa = data / _views(SOFA, 0)
    others = [
        data / RENDERINGS / "README", data / VOXELS / LAMP / "taxonomy.json", sofa / "00.PNG",
        sofa / "x.png", sofa / "1.png", sofa.parent / "model.obj",
        (data / _binvox(SOFA, 1)).with_name("model.mat"),
    ]  # fmt: skip
    official = [
        data / RENDERINGS / "rendering_only.tgz", data / VOXELS / SOFA / "binvox.tgz",
        sofa / "rendering_metadata.txt", sofa / "renderings.txt",
    ]  # fmt: skip
    for path in others + official:
        path.write_text("x")
    report = validate(str(data))
    assert report.findings == []
    assert sorted(report.others) == sorted(map(str, others))


def test_empty_folders(data):
    (data / RENDERINGS / CHAIR / "empty").mkdir()
    (data / VOXELS / CHAIR / "also_empty").mkdir()
    (data / VOXELS / "01234567").mkdir()
    views, voxels = "expected renderings NN.png, received none", "expected voxels, received none"
    assert [found[:3] for found in _found(data)] == [
        (Kind.PARTNER, path, text)
        for model in (f"{CHAIR}/also_empty", f"{CHAIR}/empty")
        for path, text in (
            (f"{RENDERINGS}/{model}/rendering", views),
            (f"{VOXELS}/{model}/model.binvox", voxels),
        )
    ]


def test_odd_names(data):
    name = "# a\n'b' \u00e9\u2713 [red]"
    for root in (RENDERINGS, VOXELS):
        (data / root / _id(CHAIR, 0)).rename(data / root / CHAIR / name)
    assert _found(data) == []
    (data / VOXELS / CHAIR / name / "model.binvox").write_bytes(b"")
    assert [(path, key) for _, path, _, key in _found(data)] == [
        (f"{VOXELS}/{CHAIR}/{name}/model.binvox", f"{CHAIR}/{name}")
    ]


def test_names_that_are_no_text(data):
    for folder in (_views(CHAIR, 0), f"{VOXELS}/{CHAIR}"):
        os.mkdir(bytes(data / folder) + b"/\xff")
    text = r"expected names of files in UTF-8 in {}, received b'\xff'"
    assert _found(data) == [
        (Kind.UNREADABLE, folder, text.format(data / folder), key)
        for folder, key in ((f"{VOXELS}/{CHAIR}", None), (_views(CHAIR, 0), _id(CHAIR, 0)))
    ]


@pytest.mark.parametrize(
    ("function", "path"), [("open_file", _png(CHAIR, 2, 4)), ("listdir", _views(CHAIR, 2))]
)
def test_files_and_folders_without_permission(data, monkeypatch, function, path):
    """As root everything can be read: the file system's answer is simulated."""
    real = getattr(remote, function)

    def refuse(asked, *args):
        if asked == f"{data}/{path}":
            raise PermissionError(13, "Permission denied", asked)
        return real(asked, *args)

    monkeypatch.setattr(remote, function, refuse)
    text = "expected to read it, received: Permission denied"
    assert _found(data) == [(Kind.UNREADABLE, path, text, _id(CHAIR, 2))]


def test_folders_that_are_no_data(tmp_path, tree):
    absent = str(tmp_path / "absent")
    assert f"there is no folder {absent}." in refusal(validate, absent)
    assert "received odd://bucket" in refusal(validate, "odd://bucket")
    for root in (RENDERINGS, VOXELS):
        (tmp_path / root).mkdir()
    assert f"Expected models in {tmp_path}, received none" in refusal(validate, str(tmp_path))
    everyone = {path.parts[-2:] for path in (tree / VOXELS).glob("*/*")}
    assert "received none that --categories and --exclude" in refusal(
        validate, str(tree), excluded=everyone
    )


# Prepared data.


def _rewrite_index(data, *edits):
    """Edits the index by regular expressions."""
    text = (data / "index.csv").read_text()
    for pattern, replacement in edits:
        text, count = re.subn(pattern, replacement, text)
        assert count
    (data / "index.csv").write_text(text)
    _rehash(data)


def _rehash(data):
    """Gives the manifest the checksums of edited files, so that only their content tells."""
    manifest = json.loads((data / "manifest.json").read_text())
    for entry in (*manifest["shards"], manifest["index"]):
        content = (data / entry["name"]).read_bytes()
        entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (data / "manifest.json").write_text(json.dumps(manifest))


def test_a_damaged_shard(prepared):
    shard = min(prepared.glob("train-*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[-10] ^= 1
    shard.write_bytes(content)
    sums, record = _found(prepared)
    assert (*sums[:2], sums[3]) == (Kind.CHECKSUM, shard.name, None)
    assert sums[2].startswith("expected the sha256 ")
    assert record[0] is Kind.UNREADABLE
    assert record[1].startswith(f"{record[3]} in {shard.name} (record at byte ")
    assert record[2].startswith("expected to read it, received: corrupted record at ")


def test_shards_of_other_sizes_are_all_told(prepared):
    first, second = sorted(prepared.glob("*.tfrecord"))[:2]
    size = first.stat().st_size
    first.write_bytes(first.read_bytes() + b"x")
    second.unlink()
    one, other = (found for found in _found(prepared) if found[3] is None)
    text = f"expected {size} bytes, received {size + 1} or more"
    assert one == (Kind.CHECKSUM, first.name, text, None)
    assert other[:2] == (Kind.UNREADABLE, second.name)


def test_a_damaged_index(prepared):
    index = prepared / "index.csv"
    index.write_text(index.read_text().replace("chair_0000", "chair_9999"))
    text = (
        f"expected the index that manifest.json beside it names, received {index} with another "
        "checksum"
    )
    assert _found(prepared) == [(Kind.CHECKSUM, "index.csv", text, None)]


def test_a_model_that_the_index_has_in_two_splits(prepared):
    _rewrite_index(prepared, ("train(.*sofa_0000.*\n)", r"\g<0>test\1"))
    text = "expected a model in one split, received it in test and train"
    found = [(Kind.SPLITS, f"{_id(SOFA, 0)} in index.csv", text, _id(SOFA, 0))]
    assert _found(prepared) == found
    assert _found(prepared, excluded={(SOFA, "sofa_0000")}) == []


def test_models_without_a_half_in_the_index(prepared):
    _rewrite_index(
        prepared,
        ("(sofa_0000.*,)1", r"\g<1>0"),
        ("(sofa_0001.*,)00 01 02 03 04 05", r"\1"),
        ("(sofa_0002.*,00 01 02) 03 04 05", r"\1"),
    )
    assert [(kind, text) for kind, _, text, _ in _found(prepared)] == [
        (Kind.PARTNER, "expected voxels for the renderings, received none"),
        (Kind.PARTNER, "expected renderings NN.png for the voxels, received none"),
        (Kind.VIEWS, "expected 6 views, received 3, without 03, 04, 05"),
    ]


def test_an_index_that_names_views_that_are_not_there(prepared):
    _rewrite_index(prepared, (" 05,", " 05 06,"))
    assert {kind for kind, *_ in _found(prepared)} == {Kind.UNREADABLE}


def test_records_that_hold_something_else(prepared):
    shard = min(prepared.glob("train-*.tfrecord"))
    for content, received in (
        (b"a\nb", "Could not parse example input, value: 'a"),
        (b"\xff" * 300, "its bytes are no Example"),
    ):
        with tf.io.TFRecordWriter(str(shard)) as writer:
            writer.write(content)
        _rehash(prepared)
        texts = {text for kind, _, text, _ in _found(prepared) if kind is Kind.UNREADABLE}
        assert f"expected to read it, received: {received}" in texts


def test_two_models_of_one_record_are_duplicates(prepared):
    _rewrite_index(prepared, ("(.*)sofa_0000(.*\n)", r"\g<0>\1sofa_copy\2"))
    found = _found(prepared)
    assert [kind for kind, *_ in found] == [Kind.SAME_VOXELS] + [Kind.SAME_PNG] * 6
    assert {key for *_, key in found} == {f"{SOFA}/sofa_copy"}
    assert found[1][1].startswith(f"{SOFA}/sofa_copy/rendering/00.png in train-{SOFA}-00000.tf")


def test_categories_of_prepared_data(prepared):
    for shard in prepared.glob(f"*-{CHAIR}-*"):
        shard.unlink()
    assert _found(prepared, categories=["sofa", "lamp"]) == []
    assert _found(prepared, categories=["chair"]) != []


def test_other_files_beside_shards(prepared):
    (prepared / "notes.txt").touch()
    report = validate(str(prepared))
    assert (report.findings, report.others) == ([], [str(prepared / "notes.txt")])


# The list of models to leave out.


def test_a_fix_list_makes_the_data_sound(data, tmp_path):
    for target in (_png(SOFA, 0, 0), _png(SOFA, 0, 4), _binvox(TABLE, 3)):
        (data / target).write_bytes(b"")
    (data / _binvox(SOFA, 0)).unlink()
    shutil.copy(data / _png(LAMP, 0, 1), data / _png(LAMP, 3, 2))
    before = {(CHAIR, "chair_0000"), (LAMP, "never_was")}
    report = validate(str(data), excluded=before)
    path = str(tmp_path / "bad.txt")
    write_fix_list(path, report, before)
    assert Path(path).read_text() == (
        "# Models to leave out: give this file as --exclude.\n"
        f"{CHAIR}/chair_0000  # excluded before\n"
        f"{LAMP}/never_was  # excluded before\n"
        f"{SOFA}/sofa_0000  # broken PNG (2), missing partner\n"
        f"{TABLE}/table_0003  # broken binvox\n"
    )
    excluded = splits.read_exclusions(path)
    assert excluded == before | report.bad_models().keys()
    (note,) = validate(str(data), excluded=excluded).findings
    assert note.kind is Kind.SAME_PNG


@pytest.mark.parametrize("name", ["a#b", "a\nb", "a ", " a", "a\u2028b"])
def test_names_that_a_fix_list_cannot_hold(data, tmp_path, name):
    (data / VOXELS / CHAIR / name).mkdir()
    path = tmp_path / "bad.txt"
    write_fix_list(str(path), validate(str(data)))
    assert splits.read_exclusions(str(path)) == set()
    assert "# Rename '" in path.read_text()
