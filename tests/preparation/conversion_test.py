"""Prepared data hold what the tree holds, in whichever order and from whichever source it came."""

import itertools
import json
import os
import random
import time

import hypothesis.strategies as st
import packed
import pytest
from hypothesis import given, settings
from packed import CHAIR, R2N2, TABLE

from r2n2_keras.data import shards, splits, trees
from r2n2_keras.errors import InputError
from r2n2_keras.preparation import conversion, packing, shard_writer

FILES = packed.files()


def _archive(folder, files):
    """One of renderings and voxels."""
    return packed.write_tar(folder / "both.tar", files, "w:")


@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**32),
    max_waiting=st.sampled_from([0, 1_500, 4_000, 1 << 20]),
    shard_bytes=st.sampled_from([1, 700, 1 << 20]),
)
def test_any_order_gives_what_the_tree_gives(
    truth, tmp_path_factory, seed, max_waiting, shard_bytes
):
    folder = tmp_path_factory.mktemp("order")
    members = list(FILES.items())
    random.Random(seed).shuffle(members)
    both = _archive(folder, members)
    out = folder / "out"
    result = packed.prepare(both, both, out, max_waiting=max_waiting, shard_bytes=shard_bytes)
    assert packed.of_shards(out) == truth
    assert result.renderings == 27
    assert not [name for name in os.listdir(out) if "partial" in name]


def test_every_source_gives_the_same_shards(small, truth, tmp_path):
    """Folders, archives, a mix; the shards are equal byte for byte."""
    sources = []
    for name in ("ShapeNetRendering", "ShapeNetVox32"):
        files = sorted(packed.half(FILES, name).items())
        sources.append((small / name, packed.write_tar(tmp_path / f"{name}.tgz", files)))
    contents = []
    for pair in (
        *itertools.product(*sources),
        (small, small),
        (small, small),
    ):  # two runs are equal
        out = tmp_path / str(len(contents))
        packed.prepare(*pair, out, max_waiting=3_000)
        contents.append(packed.content(out))
        del contents[-1]["manifest.json"]  # it names the sources
    assert packed.of_shards(out) == truth
    assert all(content == contents[0] for content in contents)


def test_shards_behind_a_url(small, truth):
    out = "ram://prepared/data"
    packed.prepare(small, small, out, max_waiting=0)
    assert packed.of_shards(out) == truth
    with pytest.raises(InputError, match="holds prepared data"):
        shard_writer.check_folder(out)
    packed.prepare(small, small, out)
    assert packed.of_shards(out) == truth


def test_real_files(real_data, tmp_path):
    result = packed.prepare(
        real_data / "ShapeNetRendering", real_data / "ShapeNetVox32", tmp_path / "out"
    )
    assert packed.of_shards(tmp_path / "out") == packed.of_tree(real_data)
    assert result.manifest["image_size"] == [137, 137]
    assert result.manifest["num_views"] == 24
    assert result.renderings == 24 * 8


@pytest.mark.parametrize("max_waiting", [0, 1 << 20])
def test_of_a_file_that_comes_twice_the_last_counts(tmp_path, max_waiting):
    name = f"{CHAIR}/m1"
    again = {
        f"x/{name}/rendering/01.png": packed.png("later"),
        f"x/{name}/model.binvox": packed.voxels(40),
    }
    both = _archive(tmp_path, [*FILES.items(), *again.items()])
    packed.prepare(both, both, tmp_path / "out", max_waiting=max_waiting)
    data = shards.read_prepared(str(tmp_path / "out"))
    (one,) = (one for one in data.objects if one.name == name)
    assert one.files.read_view("01") == packed.png("later")
    assert one.files.read_voxels() == packed.voxels(40)
    assert one.views == ("00", "01", "02")


# What is left out.


def test_other_files_and_models_without_a_partner_are_counted(truth, tmp_path):
    half = "ShapeNetRendering"
    more = {
        f"{half}/rendering_only.tgz": b"an archive in the archive",
        f"{half}/README": b"",
        "ShapeNetVox32/binvox.tgz": b"another",
        f"{half}/{CHAIR}/lonely/rendering/00.png": packed.png(),
        f"{half}/{CHAIR}/lonely/rendering/01.png": packed.png(),
        f"{half}/{TABLE}/lonely/rendering/rendering_metadata.txt": b"",
        f"{half}/{CHAIR}/no_views/rendering/rendering_metadata.txt": b"cameras",
        f"ShapeNetVox32/{CHAIR}/no_views/model.binvox": packed.voxels(1),
        f"ShapeNetVox32/{CHAIR}/nothing/model.binvox": packed.voxels(1),
    }
    tree = packed.write_tree(tmp_path / "tree", {**FILES, **more})
    both = _archive(tmp_path, {**FILES, **more}.items())
    for number, source in enumerate((tree, both)):
        out = tmp_path / str(number)
        result = packed.prepare(source, source, out, max_waiting=0)
        assert result.manifest["left_out"] == {
            "other files": 1,
            "nested archives": 2,
            "models without voxels": 2,
            "models without renderings": 2,
        }
        assert packed.of_shards(out) == packed.of_tree(tree)
        assert "no_views" not in (out / "index.csv").read_text()
    assert {key for _, key in packed.of_tree(tree)} == {key for _, key in truth}


def test_views_are_kept_by_number(small, truth, tmp_path):
    result = packed.prepare(small, small, tmp_path, views=(2, 0, 7))
    assert packed.of_shards(tmp_path) == {
        name: (voxels, {"00": views["00"], "02": views["02"]})
        for name, (voxels, views) in truth.items()
    }
    assert result.manifest["views"] == [0, 2, 7]
    assert result.manifest["num_views"] == 2
    assert result.absent_views == [7]


def test_categories_and_exclusions(small, truth, tmp_path):
    packed.prepare(small, small, tmp_path / "tables", categories=("table",))
    tables = {key: files for key, files in truth.items() if TABLE in key[1]}
    assert packed.of_shards(tmp_path / "tables") == tables
    excluded = {(CHAIR, "m0"), (CHAIR, "m5"), (CHAIR, "absent")}
    result = packed.prepare(small, small, tmp_path / "rest", excluded=excluded)
    rest = {key: truth[key] for key in truth if tuple(key[1].split("/")) not in excluded}
    assert packed.of_shards(tmp_path / "rest") == rest  # no other model moves
    assert result.manifest["left_out"] == {"excluded models": 2}


@pytest.mark.parametrize("rule", [R2N2, {"rule": "random", "split_seed": 3}])
def test_the_split_is_that_of_the_tree(small, tmp_path, rule):
    expected = splits.split_objects(*trees.list_objects(str(small)), **rule)
    packed.prepare(small, small, tmp_path, split_rule=rule, views=(1,))
    data = shards.read_prepared(str(tmp_path))
    assert data.split_rule == expected.split_rule
    for part, objects in expected.parts.items():
        assert [one.key for one in data.parts[part]] == [one.key for one in objects]


def test_a_split_file_need_not_name_all(small, tmp_path):
    entry = {"taxonomy_id": CHAIR, "train": ["m1"], "val": [], "test": ["m0", "m3"]}
    file = tmp_path / "ShapeNet.json"
    file.write_text(json.dumps([entry]))
    rule = {"rule": "pix2vox", "split_file": str(file)}
    result = packed.prepare(small, small, tmp_path / "out", split_rule=rule)
    names = {("train", f"{CHAIR}/m1"), ("test", f"{CHAIR}/m0"), ("test", f"{CHAIR}/m3")}
    assert set(packed.of_shards(tmp_path / "out")) == names
    assert result.manifest["left_out"] == {"models that the split does not name": 6}
    assert result.manifest["split_rule"].startswith("pix2vox (ShapeNet.json, sha256 ")


# Unusable files.

MODEL = f"{CHAIR}/m2"
VIEWS = f"ShapeNetRendering/{MODEL}/rendering"
BINVOX = f"ShapeNetVox32/{MODEL}/model.binvox"
HEADER = b"#binvox 1\ndim 4 4 4\ndata\n"


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        (f"{VIEWS}/00.png", b"GIF89a" + bytes(60), "expected a PNG, received 66 bytes that begin"),
        (f"{VIEWS}/02.png", packed.png()[:-20], r"that cannot be decoded \(it ends early"),
        (BINVOX, HEADER + b"\1\xff" * 1000, "expected run lengths that fill 4x4x4"),
        (BINVOX, HEADER + b"\1\x40", "received 4x4x4"),
        (BINVOX, HEADER.replace(b"4", b"32") + b"\0\x80" * 256, "received an empty grid"),
    ],
    ids=["no PNG", "truncated PNG", "runs", "other grid", "empty grid"],
)
def test_unusable_files(truth, tmp_path, path, content, message):
    both = _archive(tmp_path, {**FILES, path: content}.items())
    out = tmp_path / "out"
    with pytest.raises(InputError, match=message) as error:
        packed.prepare(both, both, out, max_waiting=0)
    assert str(error.value).startswith(f"{path} in {both}: expected ")
    assert "--exclude, or give --on_bad_sample=skip" in str(error.value)
    assert not out.exists()

    result = packed.prepare(both, both, out, skip_bad=True, max_waiting=0)
    assert result.manifest["left_out"] == {"models with unusable files": 1}
    (told,) = result.bad_files
    assert told.startswith(f"{path} in {both}: expected ")
    assert packed.of_shards(out) == {key: truth[key] for key in truth if key[1] != MODEL}
    assert f"{MODEL.replace('/', ',')}," not in (out / "index.csv").read_text()


def test_an_unusable_file_that_is_not_wanted(tmp_path):
    both = _archive(tmp_path, {**FILES, f"{VIEWS}/00.png": b""}.items())
    packed.prepare(both, both, tmp_path / "a", categories=(TABLE,))
    packed.prepare(both, both, tmp_path / "b", views=(1, 2))
    packed.prepare(both, both, tmp_path / "c", excluded={tuple(MODEL.split("/"))})


def test_sources_that_do_not_fit(small, tmp_path):
    renderings, voxels = small / "ShapeNetRendering", small / "ShapeNetVox32"
    empty = packed.write_tar(tmp_path / "empty.tgz", [("notes", b"")])
    other = packed.write_tree(tmp_path / "other", {f"{CHAIR}/z/rendering/00.png": packed.png()})
    content = {name: b"" if name.endswith("png") else data for name, data in FILES.items()}
    bad, skip = _archive(tmp_path, content.items()), {"skip_bad": True}
    all_models = {(synset_id, f"m{n}") for synset_id in (CHAIR, TABLE) for n in range(6)}
    for one, two, choice, message in (
        (voxels, renderings, {}, r"has none among its 45 files. Are .* swapped\?"),
        (renderings, empty, {}, "Expected --voxels with files"),
        (empty, voxels, {}, "Expected --renderings with files"),
        (other, voxels, {}, r"no such pair .*1 models without voxels"),
        (renderings, voxels, {"views": (7, 8)}, "renderings 7,8 in .* no such pair"),
        (bad, bad, skip, "no such pair .9 models with unusable files"),
        (renderings, voxels, {"excluded": all_models}, r"none is left \(9 excluded models\)"),
        (renderings, voxels, {"categories": ("charr",)}, r"chair, table .* received charr"),
    ):
        with pytest.raises(InputError, match=message):
            packed.prepare(one, two, tmp_path / "out", **choice)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        (conversion, "MAX_VOXELS", "Prepare some --categories at a time"),
        (packing, "MAX_VIEW_NAMES", "at most 2 different names"),
    ],
)
def test_more_than_memory_should_hold(small, tmp_path, monkeypatch, module, name, message):
    monkeypatch.setattr(module, name, 2)
    with pytest.raises(InputError, match=message):
        packed.prepare(small, small, tmp_path / "out")


def test_the_first_bad_file_is_told_however_far_ahead_others_are_checked(tmp_path, monkeypatch):
    """Two bad files, and only the later one's check is quick."""
    first, second = (f"ShapeNetRendering/{CHAIR}/m{n}/rendering/00.png" for n in (2, 4))
    both = _archive(tmp_path, {**FILES, first: b"", second: b""}.items())
    check_png = conversion.check_png

    def slow(content, place):
        if place.startswith(first):
            time.sleep(0.2)
        check_png(content, place)

    monkeypatch.setattr(conversion, "check_png", slow)
    with pytest.raises(InputError, match=f"^{first}"):
        packed.prepare(both, both, tmp_path / "out")
    result = packed.prepare(both, both, tmp_path / "out", skip_bad=True)
    assert [told.split(" in ")[0] for told in result.bad_files] == [first, second]
