"""What validation finds: everything that was broken on purpose, and nothing in sound data."""

import csv
import hashlib
import io
import json
import os
import random
import shutil
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from r2n2_keras.data import binvox_graph, images, remote, splits
from r2n2_keras.data.categories import SYNSET_IDS
from r2n2_keras.data.trees import list_objects
from r2n2_keras.errors import InputError
from r2n2_keras.preparation.checker import Kind
from r2n2_keras.preparation.comparison import same
from r2n2_keras.preparation.validation import validate, write_fix_list

CHAIR, TABLE, LAMP, SOFA = (SYNSET_IDS[name] for name in ("chair", "table", "lamp", "sofa"))
RENDERINGS, VOXELS = "ShapeNetRendering", "ShapeNetVox32"
HEADER = b"#binvox 1\ndim 32 32 32\ndata\n"


def _id(synset_id, number):
    name = {CHAIR: "chair", TABLE: "table", LAMP: "lamp", SOFA: "sofa"}[synset_id]
    return f"{synset_id}/{name}_{number:04d}"


def _png(synset_id, number, view):
    return f"{RENDERINGS}/{_id(synset_id, number)}/rendering/{view:02d}.png"


def _views(synset_id, number):
    return f"{RENDERINGS}/{_id(synset_id, number)}/rendering"


def _binvox(synset_id, number):
    return f"{VOXELS}/{_id(synset_id, number)}/model.binvox"


@pytest.fixture
def data(tree, tmp_path):
    """A copy of the synthesised set."""
    return shutil.copytree(tree, tmp_path / "data")


def _found(data, **settings):
    """(kind, path inside the data, text, model) of every finding."""
    return [
        (one.kind, one.path.replace(f"{data}/", ""), one.text, one.key and "/".join(one.key))
        for one in validate(str(data), **settings).findings
    ]


# Sound data.


def test_sound_data(tree):
    report = validate(str(tree))
    assert report.findings == []
    assert report.others == []
    assert report.models == dict.fromkeys(sorted([CHAIR, TABLE, LAMP, SOFA]), 5)
    assert report.renderings == dict.fromkeys(sorted([CHAIR, TABLE, LAMP, SOFA]), 30)


def test_real_data(real_data):
    report = validate(str(real_data))
    assert report.findings == []
    assert report.others == []
    assert sum(report.models.values()) == 8
    assert sum(report.renderings.values()) == 192


def test_looks_at_the_models_that_training_finds(data):
    shutil.rmtree(data / _views(CHAIR, 0))
    (data / _binvox(CHAIR, 1)).unlink()
    models, _ = list_objects(str(data))
    bad = validate(str(data)).bad_models()
    everyone = {path.parts[-2:] for path in (data / VOXELS).glob("*/*")}
    assert {model.key for model in models} == everyone - bad.keys()


def test_progress_counts_models(tree):
    steps = []
    validate(str(tree), categories=["chair"], progress=lambda *step: steps.append(step))
    assert steps == [(done, 5) for done in range(1, 6)]


# One thing broken.


def _edit(change):
    """Damage: replaces the bytes of a file by a function of them."""

    def damage(path):
        path.write_bytes(change(path.read_bytes()))

    return damage


def _picture(change):
    def damage(path):
        with Image.open(path) as picture:
            change(picture.copy()).save(path)

    return damage


def _claiming(width, height):
    """Damage: a PNG claims another size, with the right checksum."""

    def change(content):
        head = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
        return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]

    return _edit(change)


def _written(content):
    return lambda path: path.write_bytes(content)


def _folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    "no renderings folder": (
        f"{RENDERINGS}/{_id(CHAIR, 1)}", shutil.rmtree, Kind.PARTNER, _views(CHAIR, 1),
        "expected renderings NN.png for the voxels, received none",
    ),
    "renderings folder empty": (
        _views(CHAIR, 1), lambda path: [p.unlink() for p in path.iterdir()], Kind.PARTNER,
        _views(CHAIR, 1), "expected renderings NN.png for the voxels, received none",
    ),
    "no binvox": (
        _binvox(CHAIR, 1), lambda path: path.unlink(), Kind.PARTNER, _binvox(CHAIR, 1),
        "expected voxels for the renderings, received none",
    ),
    "no voxels folder": (
        f"{VOXELS}/{_id(CHAIR, 1)}", shutil.rmtree, Kind.PARTNER, _binvox(CHAIR, 1),
        "expected voxels for the renderings, received none",
    ),
    "a view gone": (
        _png(LAMP, 2, 3), lambda path: path.unlink(), Kind.VIEWS, _views(LAMP, 2),
        "expected 6 views, received 5, without 03",
    ),
    "a gap": (
        _png(LAMP, 2, 3), lambda path: path.rename(path.with_name("06.png")), Kind.VIEWS,
        _views(LAMP, 2), "expected 6 views, received 6, without 03 and with 06",
    ),
    "a view more": (
        _png(LAMP, 2, 3), lambda path: (path.with_name("06.png")).write_bytes(
            _with_text(path.read_bytes())
        ),
        Kind.VIEWS, _views(LAMP, 2), "expected 6 views, received 7, with 06",
    ),
    "empty PNG": (
        _png(SOFA, 0, 0), _written(b""), Kind.PNG, _png(SOFA, 0, 0),
        "expected a PNG, received an empty file",
    ),
    "truncated PNG": (
        _png(SOFA, 0, 0), _edit(lambda content: content[:-40]), Kind.PNG, _png(SOFA, 0, 0),
        "expected a PNG, received one that cannot be decoded (it ends early, after ",
    ),
    "JPEG as PNG": (
        _png(SOFA, 0, 0), lambda path: Image.new("RGB", (137, 137)).save(path, "JPEG"), Kind.PNG,
        _png(SOFA, 0, 0), r"bytes that begin with b'\xff\xd8\xff",
    ),
    "zip bomb": (
        _png(SOFA, 0, 0), _claiming(100_000, 100_000), Kind.PNG, _png(SOFA, 0, 0),
        "expected a PNG of 1 to 4096 pixels along each edge, received one of 100000x100000",
    ),
    "another size": (
        _png(SOFA, 4, 5), _picture(lambda picture: picture.resize((127, 127))), Kind.MODE,
        _png(SOFA, 4, 5), "expected 137x137 RGBA as most are, received 127x127 RGBA",
    ),
    "no alpha": (
        _png(SOFA, 4, 5), _picture(lambda picture: picture.convert("RGB")), Kind.MODE,
        _png(SOFA, 4, 5), "expected 137x137 RGBA as most are, received 137x137 RGB",
    ),
    "palette": (
        _png(SOFA, 4, 5), _picture(lambda picture: picture.convert("P")), Kind.MODE,
        _png(SOFA, 4, 5), "received 137x137 palette",
    ),
    "16 bits": (
        _png(SOFA, 4, 5), _picture(lambda picture: picture.convert("I;16")), Kind.MODE,
        _png(SOFA, 4, 5), "received 137x137 grey of 16 bits",
    ),
    "no binvox header": (
        _binvox(TABLE, 3), _written(b"#binvax 1\n"), Kind.BINVOX, _binvox(TABLE, 3),
        "expected a binvox file that begins with '#binvox 1', received b'#binvax 1\\n'",
    ),
    "runs too short": (
        _binvox(TABLE, 3), _written(HEADER + b"\x01\x05"), Kind.BINVOX, _binvox(TABLE, 3),
        "expected run lengths that fill 32x32x32 cells, received 2 bytes for 5 cells",
    ),
    "run of neither": (
        _binvox(TABLE, 3), _written(HEADER + b"\x02\x80" * 256), Kind.BINVOX, _binvox(TABLE, 3),
        "expected runs of 0 (empty) or 1 (occupied), received a run of 2",
    ),
    "other dims": (
        _binvox(TABLE, 3), _written(HEADER.replace(b"32", b"16") + b"\x01\x80" * 32), Kind.DIMS,
        _binvox(TABLE, 3), "expected 32x32x32 cells, which the networks predict, received 16x16x16",
    ),
    "no cube": (
        _binvox(TABLE, 3), _written(HEADER.replace(b"32 32 32", b"32 32 1") + b"\x01\x80" * 8),
        Kind.DIMS, _binvox(TABLE, 3), "received 32x1x32",
    ),
    "empty grid": (
        _binvox(TABLE, 3), _written(HEADER + b"\x00\x80" * 256), Kind.EMPTY, _binvox(TABLE, 3),
        "expected an occupied voxel, received an empty grid",
    ),
    "folder as PNG": (
        _png(SOFA, 0, 0), _folder, Kind.UNREADABLE, _png(SOFA, 0, 0), "expected to read it",
    ),
    "folder as binvox": (
        _binvox(SOFA, 0), _folder, Kind.UNREADABLE, _binvox(SOFA, 0), "expected to read it",
    ),
}  # fmt: skip


def _with_text(png):
    """The same picture in other bytes."""
    chunk = b"tEXtComment\0copy"
    return (
        png[:33] + struct.pack(">I", 12) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]
    )


@pytest.mark.parametrize("name", DAMAGES)
def test_one_thing_broken(data, name):
    target, damage, kind, path, text = DAMAGES[name]
    damage(data / target)
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
        path.write_bytes(HEADER.replace(b"32", b"16") + b"\x01\x80" * 32)
    assert [kind for kind, *_ in _found(data)] == [Kind.DIMS] * 20


def test_data_of_other_views_are_sound(data):
    for path in data.rglob("0[135].png"):
        path.unlink()
    assert _found(data) == []
    assert len(_found(data, num_views=3)) == 0
    text = "expected 6 views, received 3, without 01, 03, 05"
    assert {(kind, text) for kind, _, text, _ in _found(data, num_views=6)} == {
        (Kind.TOO_FEW, text)
    }
    assert {(kind, text) for kind, _, text, _ in _found(data, num_views=2)} == {
        (Kind.VIEWS, "expected 2 views, received 3, without 01 and with 02, 04")
    }
    assert _found(data, num_views=24)[0][2] == (
        "expected 24 views, received 3, without 01, 03, 05, 06, 07 ..."
    )


def test_where_models_differ_evenly_one_lost_a_view(data):
    for synset_id in (TABLE, LAMP, SOFA):
        shutil.rmtree(data / RENDERINGS / synset_id)
        shutil.rmtree(data / VOXELS / synset_id)
    for number in (2, 3, 4):
        shutil.rmtree(data / RENDERINGS / _id(CHAIR, number))
        shutil.rmtree(data / VOXELS / _id(CHAIR, number))
    (data / _png(CHAIR, 0, 2)).unlink()
    assert [path for _, path, _, _ in _found(data)] == [_views(CHAIR, 0)]


# Duplicates.


def _copied(data, source, target):
    shutil.copy(data / source, data / target)


def _same_as(data, path):
    return f"expected content of its own, received that of {data}/{path}"


def test_same_rendering_of_two_models(data):
    _copied(data, _png(LAMP, 0, 1), _png(CHAIR, 4, 2))
    # Sorted by synset id the chair, 03001627, is first: the lamp goes.
    found = (Kind.SAME_PNG, _png(LAMP, 0, 1), _same_as(data, _png(CHAIR, 4, 2)), _id(LAMP, 0))
    assert _found(data) == [found]


def test_opposite_views_that_coincide_are_notes(data):
    """As in real sets, of symmetric models: all are sound."""
    for number in range(5):
        _copied(data, _png(LAMP, number, 1), _png(LAMP, number, 5))
    report = validate(str(data))
    assert [(one.kind, one.key) for one in report.notes] == [
        (Kind.SAME_PNG, (LAMP, f"lamp_{number:04d}")) for number in range(5)
    ]
    assert report.notes[0].text == _same_as(data, _png(LAMP, 0, 1))
    assert report.errors == [] and report.bad_models() == {}


def test_same_voxels(data):
    for number in (1, 3):
        _copied(data, _binvox(SOFA, 0), _binvox(SOFA, number))
    assert _found(data) == [
        (Kind.SAME_VOXELS, _binvox(SOFA, n), _same_as(data, _binvox(SOFA, 0)), _id(SOFA, n))
        for n in (1, 3)
    ]


def test_broken_files_are_no_duplicates(data):
    for number in (0, 1):
        (data / _png(SOFA, number, 0)).write_bytes(b"")
        (data / _binvox(SOFA, number)).write_bytes(HEADER + b"\x00\x80" * 256)
    assert {kind for kind, *_ in _found(data)} == {Kind.PNG, Kind.EMPTY}


def test_the_same_picture_in_other_bytes_is_no_duplicate(data):
    (data / _png(LAMP, 0, 5)).write_bytes(_with_text((data / _png(LAMP, 0, 1)).read_bytes()))
    assert _found(data) == []


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=30))
def test_groups_of_the_same_digest(digests):
    groups = {}
    for place, digest in enumerate(digests):
        groups.setdefault(digest, []).append(place)
    expected = sorted(group for group in groups.values() if len(group) > 1)
    assert sorted(same(digests)) == expected


# Choices.


def test_excluded_models_are_passed_over(data):
    (data / _png(LAMP, 2, 3)).write_bytes(b"")
    (data / _binvox(CHAIR, 1)).unlink()
    excluded = {(LAMP, "lamp_0002"), (CHAIR, "chair_0001"), (CHAIR, "never_was")}
    report = validate(str(data), excluded=excluded)
    assert report.findings == []
    assert report.models == {CHAIR: 4, LAMP: 4, SOFA: 5, TABLE: 5}


def test_a_duplicate_of_an_excluded_model_is_none(data):
    _copied(data, _binvox(SOFA, 0), _binvox(SOFA, 1))
    assert _found(data, excluded={(SOFA, "sofa_0000")}) == []


def test_categories(data):
    (data / _png(LAMP, 2, 3)).write_bytes(b"")
    assert _found(data, categories=["chair", TABLE]) == []
    assert len(_found(data, categories=["lamp"])) == 1
    with pytest.raises(InputError, match="Expected --categories out of chair, lamp, sofa, table"):
        validate(str(data), categories=["unicorn"])


def test_a_category_without_voxels(data):
    shutil.rmtree(data / VOXELS / LAMP)
    found = _found(data)
    assert [path for _, path, _, _ in found] == [_binvox(LAMP, number) for number in range(5)]


def test_folders_of_other_names(data):
    (data / RENDERINGS).rename(data / "views")
    (data / VOXELS).rename(data / "grids")
    assert _found(data, renderings_dir="views", voxels_dir="grids") == []


# Models in two splits.


def _split_file(path, **parts):
    categories = [{"taxonomy_id": SOFA, **{part: [] for part in splits.SPLITS}, **parts}]
    path.write_text(json.dumps(categories))
    return str(path)


def test_models_in_two_splits(tree, tmp_path):
    ids = [f"sofa_{number:04d}" for number in range(5)]
    path = _split_file(tmp_path / "s.json", train=ids[:4], val=ids[3:4], test=[ids[0], ids[4]])
    assert _found(tree, split_file=path) == [
        (Kind.SPLITS, f"{SOFA}/sofa_0000 in {path}",
         "expected a model in one split, received it in test and train", None),
        (Kind.SPLITS, f"{SOFA}/sofa_0003 in {path}",
         "expected a model in one split, received it in train and val", None),
    ]  # fmt: skip


def test_a_sound_split_file(tree, tmp_path):
    path = _split_file(tmp_path / "s.json", train=["sofa_0000", "sofa_0001"], test=["sofa_0002"])
    assert _found(tree, split_file=path) == []


@pytest.mark.parametrize("content", ["", "{}", "[{}]", "[1]", '[{"taxonomy_id": "1"}]'])
def test_a_split_file_that_is_none(tree, tmp_path, content):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(InputError, match=r"s\.json"):
        validate(str(tree), split_file=str(tmp_path / "s.json"))


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
    assert [(kind, path, text) for kind, path, text, _ in _found(data)] == [
        (Kind.PARTNER, f"{RENDERINGS}/{CHAIR}/{name}/rendering",
         "expected renderings NN.png, received none")
        if root == RENDERINGS
        else (Kind.PARTNER, f"{VOXELS}/{CHAIR}/{name}/model.binvox",
              "expected voxels, received none")
        for name in ("also_empty", "empty")
        for root in (RENDERINGS, VOXELS)
    ]  # fmt: skip


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
    folder = data / _views(CHAIR, 0)
    with open(bytes(folder) + b"/\xff.png", "wb"):
        pass
    (found,) = _found(data)
    assert found[:2] == (Kind.UNREADABLE, _views(CHAIR, 0))
    assert found[2] == r"expected names of files in UTF-8, received b'\xff.png'"


def test_names_of_models_that_are_no_text(data):
    os.mkdir(bytes(data / VOXELS / CHAIR) + b"/\xff")
    found = _found(data)
    assert (Kind.UNREADABLE, f"{VOXELS}/{CHAIR}", None) == (*found[0][:2], found[0][3])


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


def test_a_pipe_is_not_waited_for(data):
    (data / _png(CHAIR, 2, 4)).unlink()
    os.mkfifo(data / _png(CHAIR, 2, 4))
    assert [found[:2] for found in _found(data)] == [(Kind.UNREADABLE, _png(CHAIR, 2, 4))]


@pytest.mark.parametrize(
    ("target", "content"),
    [
        (_binvox(CHAIR, 0), b"#binvox 1\ndim 10000 10000 10000\ndata\n" + b"\x01\xff" * 1000),
        (_binvox(CHAIR, 0), b"#binvox 1\ndim 1024 1024 1024\ndata\n" + b"\x01\xff" * 1000),
        (_binvox(CHAIR, 0), HEADER + b"\x01\xff" * 2**22),
        (_binvox(CHAIR, 0), HEADER[:-5] + b"#" * 2**22),
    ],
    ids=["huge dims", "dims without runs", "endless runs", "endless header"],
)
def test_bombs_take_little_memory(data, target, content):
    (data / target).write_bytes(content)
    tracemalloc.start()
    (found,) = _found(data, categories=["chair"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[:2] == (Kind.BINVOX, target)
    assert peak < 4 * len(content) + 2**23


def test_files_that_are_too_large_are_not_read(data):
    for target in (_binvox(CHAIR, 0), _png(CHAIR, 1, 0)):
        with open(data / target, "wb") as file:
            file.truncate(2**40)
    assert [(kind, path) for kind, path, _, _ in _found(data)] == [
        (Kind.UNREADABLE, _binvox(CHAIR, 0)), (Kind.UNREADABLE, _png(CHAIR, 1, 0)),
    ]  # fmt: skip


def _message(*args, **kwargs):
    with pytest.raises(InputError) as caught:
        validate(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_that_are_no_data(tmp_path, tree):
    absent = str(tmp_path / "absent")
    assert f"there is no folder {absent}." in _message(absent)
    assert "received odd://bucket" in _message("odd://bucket")
    (tmp_path / "file").touch()
    assert f"there is no folder {tmp_path}/file." in _message(str(tmp_path / "file"))
    assert f"there is no folder {tmp_path}/{RENDERINGS}." in _message(str(tmp_path))
    (tmp_path / RENDERINGS).mkdir()
    assert f"there is no folder {tmp_path}/{VOXELS}." in _message(str(tmp_path))
    (tmp_path / VOXELS).mkdir()
    assert f"Expected models in {tmp_path}, received none" in _message(str(tmp_path))
    everyone = {path.parts[-2:] for path in (tree / VOXELS).glob("*/*")}
    assert "received none that --categories and --exclude" in _message(str(tree), excluded=everyone)


# Damage at random.


def _damaged(content, rng):
    """The content with a short range of it changed, dropped or added."""
    at, length = rng.randrange(len(content) + 1), rng.choice([1, 1, 2, 5, 40])
    if rng.random() < 0.3:
        at = rng.randrange(min(len(content), 60))
    new = rng.choice(
        [rng.randbytes(length), b"", content[at : at + length] + rng.randbytes(length)]
    )
    return content[:at] + new + content[at + length :]


@pytest.fixture(scope="module")
def training_binvox():
    signature = [tf.TensorSpec((), tf.string)]
    return tf.function(lambda content: binvox_graph.decode(content, 32), input_signature=signature)


def test_damage_at_random_is_found_or_does_no_harm(tree, tmp_path, training_binvox):
    """PNGs: found, or the same pixels. Voxels, which have no checksum: found, or of use."""
    data = tmp_path / "data"
    for root in (RENDERINGS, VOXELS):
        for number in range(5):
            shutil.copytree(tree / root / _id(LAMP, number), data / root / _id(LAMP, number))
    files = sorted((data / RENDERINGS).rglob("*.png")) + sorted(data.rglob("*.binvox")) * 6
    rng = random.Random(0)
    harmless = found_in_all = 0
    for _ in range(80):
        path = rng.choice(files)
        before = path.read_bytes()
        path.write_bytes(_damaged(before, rng))
        after = path.read_bytes()
        found = {found for _, found, _, _ in _found(data)}
        assert found <= {str(path.relative_to(data))}
        found_in_all += len(found)
        if path.suffix == ".png" and not found:
            np.testing.assert_array_equal(images.decode_png(after), images.decode_png(before))
            harmless += after != before
        elif path.suffix == ".binvox":
            try:
                taken = bool(tf.reduce_any(training_binvox(after) > 0))
            except tf.errors.OpError:
                taken = False
            assert taken is not bool(found)
        path.write_bytes(before)
    assert found_in_all > 40


# Prepared data.


@pytest.fixture(scope="module")
def prepared_once(tree, tmp_path_factory):
    from r2n2_keras import config, prepare

    out = tmp_path_factory.mktemp("prepared") / "data"
    prepare.main(config.parse([f"--data_dir={tree}", f"--out={out}"]))
    return out


@pytest.fixture
def prepared(prepared_once, tmp_path):
    """A copy of the prepared set."""
    return shutil.copytree(prepared_once, tmp_path / "data")


def _rewrite_index(data, change):
    """Changes the rows of the index, and the checksum that the manifest has of it."""
    rows = change(list(csv.DictReader(io.StringIO((data / "index.csv").read_text()))))
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    (data / "index.csv").write_text(text.getvalue())
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["index"]["sha256"] = hashlib.sha256(text.getvalue().encode()).hexdigest()
    (data / "manifest.json").write_text(json.dumps(manifest))


def _rehash(data):
    """Gives the manifest the checksums of damaged shards, so that only their records tell."""
    manifest = json.loads((data / "manifest.json").read_text())
    for shard in manifest["shards"]:
        content = (data / shard["name"]).read_bytes()
        shard |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (data / "manifest.json").write_text(json.dumps(manifest))


def _row(rows, key):
    return next(row for row in rows if f"{row['synset_id']}/{row['model_id']}" == key)


def test_sound_prepared_data(prepared_once):
    report = validate(str(prepared_once))
    assert report.findings == []
    assert report.others == []
    assert sum(report.models.values()) == 20
    assert sum(report.renderings.values()) == 120


def test_progress_counts_models_and_shards(prepared_once):
    shards = len(list(prepared_once.glob("*.tfrecord")))
    steps = []
    validate(str(prepared_once), progress=lambda *step: steps.append(step))
    assert steps[-1] == (20 + shards, 20 + shards)


def test_a_damaged_shard(prepared):
    shard = min(prepared.glob("train-*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[-10] ^= 1
    shard.write_bytes(content)
    sums, record = _found(prepared)
    assert sums[:2] == (Kind.CHECKSUM, shard.name)
    assert sums[2].startswith("expected the sha256 ")
    assert sums[3] is None
    assert record[0] is Kind.UNREADABLE
    assert record[1].startswith(f"{record[3]} in {shard.name} (record at byte ")
    assert record[2].startswith("expected to read it, received: corrupted record at ")


def test_shards_of_other_sizes_are_all_told(prepared):
    first, second = sorted(prepared.glob("*.tfrecord"))[:2]
    size = first.stat().st_size
    first.write_bytes(first.read_bytes() + b"x")
    second.unlink()
    whole = [found for found in _found(prepared) if found[3] is None]
    assert whole[0][:3] == (
        Kind.CHECKSUM, first.name, f"expected {size} bytes, received {size + 1} or more"
    )  # fmt: skip
    assert whole[1][:2] == (Kind.UNREADABLE, second.name)


def test_a_damaged_index(prepared):
    index = prepared / "index.csv"
    index.write_text(index.read_text().replace("chair_0000", "chair_9999"))
    (found,) = _found(prepared)
    assert found[:2] == (Kind.CHECKSUM, "index.csv")
    assert found[2] == (
        f"expected the index that manifest.json beside it names, received {index} with another "
        "checksum"
    )


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format_version": 99}', "\x00"])
def test_a_damaged_manifest(prepared, content):
    (prepared / "manifest.json").write_text(content)
    assert "manifest.json" in _message(str(prepared))


def test_a_model_that_the_index_has_in_two_splits(prepared):
    def again(rows):
        row = _row(rows, _id(SOFA, 0))
        assert row["split"] == "train"
        return [*rows, {**row, "split": "test"}]

    _rewrite_index(prepared, again)
    text = "expected a model in one split, received it in test and train"
    found = [(Kind.SPLITS, f"{_id(SOFA, 0)} in index.csv", text, _id(SOFA, 0))]
    assert _found(prepared) == found
    assert _found(prepared, excluded={(SOFA, "sofa_0000")}) == []


def test_models_without_a_half_in_the_index(prepared):
    def halve(rows):
        _row(rows, _id(SOFA, 0))["voxels"] = "0"
        _row(rows, _id(SOFA, 1))["views"] = ""
        _row(rows, _id(SOFA, 2))["views"] = "00 01 02"
        return rows

    _rewrite_index(prepared, halve)
    assert [(kind, text) for kind, _, text, _ in _found(prepared)] == [
        (Kind.PARTNER, "expected voxels for the renderings, received none"),
        (Kind.PARTNER, "expected renderings NN.png for the voxels, received none"),
        (Kind.VIEWS, "expected 6 views, received 3, without 03, 04, 05"),
    ]


def test_an_index_that_names_views_that_are_not_there(prepared):
    _rewrite_index(prepared, lambda rows: [{**row, "views": row["views"] + " 06"} for row in rows])
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
    def again(rows):
        return [*rows, {**_row(rows, _id(SOFA, 0)), "model_id": "sofa_copy"}]

    _rewrite_index(prepared, again)
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


def test_every_damage_of_prepared_data_is_found(prepared):
    files = [prepared / "index.csv", *sorted(prepared.glob("*.tfrecord"))]
    rng = random.Random(1)
    for _ in range(25):
        path = rng.choice(files)
        before = path.read_bytes()
        path.write_bytes(_damaged(before, rng))
        is_found = any(found[1] == path.name for found in _found(prepared))
        assert is_found is (path.read_bytes() != before)
        path.write_bytes(before)


# The list of models to leave out.


def test_a_fix_list_makes_the_data_sound(data, tmp_path):
    for target in (_png(SOFA, 0, 0), _png(SOFA, 0, 4), _binvox(TABLE, 3)):
        (data / target).write_bytes(b"")
    (data / _binvox(SOFA, 0)).unlink()
    _copied(data, _png(LAMP, 0, 1), _png(LAMP, 3, 2))
    report = validate(str(data))
    path = str(tmp_path / "bad.txt")
    write_fix_list(path, report)
    assert Path(path).read_text() == (
        "# Models to leave out: give this file as --exclude.\n"
        f"{SOFA}/sofa_0000  # broken PNG (2), missing partner\n"
        f"{TABLE}/table_0003  # broken binvox\n"
    )
    excluded = splits.read_exclusions(path)
    assert excluded == report.bad_models().keys()
    (note,) = validate(str(data), excluded=excluded).findings
    assert note.kind is Kind.SAME_PNG


def test_a_fix_list_keeps_what_was_excluded_before(data, tmp_path):
    (data / _png(SOFA, 0, 0)).write_bytes(b"")
    path = str(tmp_path / "bad.txt")
    excluded = {(CHAIR, "chair_0000"), (LAMP, "never_was")}
    write_fix_list(path, validate(str(data), excluded=excluded), excluded)
    assert splits.read_exclusions(path) == excluded | {(SOFA, "sofa_0000")}


def test_an_empty_fix_list(tree, tmp_path):
    path = str(tmp_path / "bad.txt")
    write_fix_list(path, validate(str(tree)))
    assert Path(path).read_text() == "# Models to leave out: give this file as --exclude.\n"
    assert splits.read_exclusions(path) == set()
    assert [p.name for p in tmp_path.iterdir()] == ["bad.txt"]


@pytest.mark.parametrize("name", ["a#b", "a\nb", " a", "a\u2028b"])
def test_names_that_a_fix_list_cannot_hold(data, tmp_path, name):
    (data / VOXELS / CHAIR / name).mkdir()
    report = validate(str(data))
    path = str(tmp_path / "bad.txt")
    write_fix_list(path, report)
    if name.strip() == name:
        assert splits.read_exclusions(path) == set()
        assert "# Rename '" in Path(path).read_text()
