"""Prepared data hold what the tree holds, in whichever order and from whichever source it came."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import packed
import pytest
import tensorflow as tf
from hypothesis import given, settings
from packed import CHAIR, R2N2, TABLE

from r2n2_keras.data import shards, splits, trees
from r2n2_keras.data.binvox import MAGIC
from r2n2_keras.errors import InputError
from r2n2_keras.preparation import conversion, packing, shard_writer

FILES = packed.files()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return packed.write_tree(tmp_path_factory.mktemp("tree"), FILES)


@pytest.fixture(scope="module")
def truth(tree):
    return packed.of_tree(tree)


def names(folder):
    return sorted(os.listdir(folder))


def index_rows(folder):
    return (folder / shards.INDEX).read_text().splitlines()[1:]


def no_pack(tmp_path, files):
    """An archive of both kinds."""
    return packed.write_tar(tmp_path / "both.tar", files, "w:")


# The same samples.


@settings(max_examples=15)
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
    both = no_pack(folder, members)
    out = folder / "out"
    result = packed.prepare(both, both, out, max_waiting=max_waiting, shard_bytes=shard_bytes)
    assert packed.of_shards(out) == truth
    assert result.renderings == 27
    assert all(name == "manifest.json" or "partial" not in name for name in names(out))


@pytest.mark.parametrize("max_waiting", [0, packing.MAX_WAITING])
def test_the_graph_reads_the_same(truth, tmp_path, max_waiting):
    members = sorted(FILES.items(), key=lambda item: item[0].rpartition("/")[2])  # view by view
    both = no_pack(tmp_path, members)
    packed.prepare(both, both, tmp_path / "out", max_waiting=max_waiting)
    data = shards.read_prepared(str(tmp_path / "out"))
    scattered = any(len(model.files.records) > 1 for model in data.objects)
    assert scattered == (max_waiting == 0)
    table = shards.ShardTable(data.objects)
    read = tf.function(table.read, input_signature=[_spec((), tf.int64), _spec([None], tf.string)])
    read_voxels = tf.function(table.read_voxels, input_signature=[_spec((), tf.int64)])
    found = {}
    for index, model in enumerate(data.objects):
        views = list(reversed(model.views)) + [model.views[0]]
        pngs, voxels = read(tf.constant(index, tf.int64), tf.constant(views))
        assert voxels == read_voxels(tf.constant(index, tf.int64))
        found[model.name] = voxels.numpy(), dict(zip(views, pngs.numpy().tolist(), strict=True))
        assert pngs[-1] == found[model.name][1][model.views[0]]
    assert found == {key: files for (_, key), files in truth.items()}


def _spec(shape, dtype):
    return tf.TensorSpec(shape, dtype)


def test_every_source_gives_the_same_shards(tree, truth, tmp_path):
    """Folders, archives, a mix, URLs; the shards are equal byte for byte."""
    renderings = sorted(packed.half(FILES, "ShapeNetRendering").items())
    voxels = sorted(packed.half(FILES, "ShapeNetVox32").items())
    renderings_tgz = packed.write_tar(tmp_path / "renderings.tgz", renderings)
    voxels_tar = packed.write_tar(tmp_path / "voxels.tar", voxels, "w:")
    tf.io.gfile.makedirs("ram://sources")
    for path in (renderings_tgz, voxels_tar):
        tf.io.gfile.copy(path, f"ram://sources/{path.rpartition('/')[2]}", overwrite=True)
    sources = [
        (renderings_tgz, voxels_tar),
        (tree / "ShapeNetRendering", tree / "ShapeNetVox32"),
        (tree, tree),
        (renderings_tgz, tree / "ShapeNetVox32"),
        (tree, voxels_tar),
        ("ram://sources/renderings.tgz", "ram://sources/voxels.tar"),
    ]
    content = []
    for number, (renderings, voxels) in enumerate(sources):
        out = tmp_path / str(number)
        packed.prepare(renderings, voxels, out)
        content.append({name: (out / name).read_bytes() for name in names(out)})
        del content[-1]["manifest.json"]  # it names the sources
        assert packed.of_shards(out) == truth
    assert all(other == content[0] for other in content)


def test_shards_behind_a_url(tree, truth):
    out = "ram://prepared/data"
    packed.prepare(tree, tree, out, max_waiting=0)
    assert packed.of_shards(out) == truth
    with pytest.raises(InputError, match="holds prepared data"):
        shard_writer.check_folder(out)
    packed.prepare(tree, tree, out)
    assert packed.of_shards(out) == truth


def test_real_files(real_data, tmp_path):
    result = packed.prepare(
        real_data / "ShapeNetRendering", real_data / "ShapeNetVox32", tmp_path / "out"
    )
    assert packed.of_shards(tmp_path / "out") == packed.of_tree(real_data)
    assert result.manifest["image_size"] == [137, 137]
    assert result.manifest["num_views"] == 24
    assert result.renderings == 24 * 8


def test_of_a_file_that_comes_twice_the_last_counts(tmp_path):
    name = f"{CHAIR}/m1"
    again = {
        f"x/{name}/rendering/01.png": packed.png("later"),
        f"x/{name}/model.binvox": packed.voxels(40),
    }
    for max_waiting in (0, 1 << 20):
        both = no_pack(tmp_path, [*FILES.items(), *again.items()])
        packed.prepare(both, both, tmp_path / "out", max_waiting=max_waiting)
        data = shards.read_prepared(str(tmp_path / "out"))
        (model,) = (model for model in data.objects if model.name == name)
        assert model.files.read_view("01") == packed.png("later")
        assert model.files.read_voxels() == packed.voxels(40)
        assert model.views == ("00", "01", "02")


# What is written.


def test_a_record_holds_a_model_with_its_names(tree, tmp_path):
    packed.prepare(tree, tree, tmp_path)
    examples = {}
    for path in tmp_path.glob("*.tfrecord"):
        for record in tf.data.TFRecordDataset(str(path)):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            values = {name: list(feature.bytes_list.value) for name, feature in features.items()}
            examples[values["model_id"][0].decode(), path.name.split("-")[1]] = values
    assert len(examples) == 9
    assert examples["m4", CHAIR] == {
        "synset_id": [CHAIR.encode()],
        "model_id": [b"m4"],
        "split": [b"test"],
        "views": [b"00", b"01", b"02"],
        "renderings": [packed.png(f"{CHAIR}/m4 {view}") for view in range(3)],
        "rendering_metadata": [f"cameras of {CHAIR}/m4".encode()],
        "voxels": [packed.voxels(4)],
    }


def test_the_manifest(tree, tmp_path):
    result = packed.prepare(tree, tree / "ShapeNetVox32", tmp_path, shard_bytes=1, limit=7)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest == result.manifest
    assert manifest["format_version"] == 1
    assert manifest["split_rule"] == "r2n2"
    assert manifest["image_size"] == [137, 137]
    assert manifest["num_views"] == 3
    assert manifest["views"] is None
    assert manifest["sources"] == {"renderings": tree.name, "voxels": "ShapeNetVox32"}
    assert manifest["left_out"] == {}
    assert manifest["models"] == {
        "train": {
            CHAIR: {"category": "chair", "models": 2, "shards": 2},
            TABLE: {"category": "table", "models": 1, "shards": 1},
        },
        "val": {
            CHAIR: {"category": "chair", "models": 1, "shards": 1},
            TABLE: {"category": "table", "models": 1, "shards": 1},
        },
        "test": {
            CHAIR: {"category": "chair", "models": 1, "shards": 1},
            TABLE: {"category": "table", "models": 1, "shards": 1},
        },
    }
    assert {"index.csv", "manifest.json", *(s["name"] for s in manifest["shards"])} == set(
        names(tmp_path)
    )
    for entry in [*manifest["shards"], manifest["index"]]:
        content = (tmp_path / entry["name"]).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert [shard["records"] for shard in manifest["shards"]] == [1] * 7


def test_offsets_are_where_records_begin(tree, tmp_path):
    packed.prepare(tree, tree, tmp_path, max_waiting=0)
    manifest = shards.read_manifest(str(tmp_path))
    rows = shards.read_index(str(tmp_path), manifest)
    parts = [part for records in rows.values() for part in records]
    assert sum(shard["records"] for shard in manifest["shards"]) == len(parts) > 27
    for part in parts:
        renderings, voxels = shards.read_record(part.shard, part.offset, list(part.views))
        assert len(renderings) == len(part.views)
        assert part.has_voxels == (voxels.numpy().startswith(MAGIC))
        with pytest.raises(tf.errors.DataLossError):
            shards.read_record(part.shard, part.offset + 1, [])


def test_two_runs_write_the_same(tree, tmp_path):
    for out in ("a", "b"):
        packed.prepare(tree, tree, tmp_path / out, max_waiting=3_000)
    assert names(tmp_path / "a") == names(tmp_path / "b")
    for name in names(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_more_categories_than_files_may_be_open(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "MAX_OPEN", 2)
    with shard_writer.ShardWriter(str(tmp_path)) as writer:
        parts = {}
        for number in range(12):
            key = f"category{number % 4}", f"m{number}"
            parts[key] = "train"
            views = {"00": packed.png(str(number))}
            writer.write("train", key, views, voxels=packed.voxels(number))
            assert len(list(tmp_path.glob("*.tfrecord.partial"))) <= 2
        writer.finish(parts, {"split_rule": "r2n2"})
    found = packed.of_shards(tmp_path)
    assert {key: files[1]["00"] for (_, key), files in found.items()} == {
        f"category{n % 4}/m{n}": packed.png(str(n)) for n in range(12)
    }


# What is left out.


def test_strays_and_models_without_a_partner_are_counted(truth, tmp_path):
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
    both = no_pack(tmp_path, {**FILES, **more}.items())
    for number, source in enumerate((tree, both)):
        result = packed.prepare(source, source, tmp_path / str(number), max_waiting=0)
        assert result.manifest["left_out"] == {
            "stray files": 1,
            "nested archives": 2,
            "models without voxels": 2,
            "models without renderings": 2,
        }
        assert packed.of_shards(tmp_path / str(number)) == packed.of_tree(tree)
        assert "no_views" not in (tmp_path / str(number) / "index.csv").read_text()
    assert {key for _, key in packed.of_tree(tree)} == {key for _, key in truth}


def test_views_are_kept_by_number(tree, truth, tmp_path):
    result = packed.prepare(tree, tree, tmp_path, views=(2, 0, 7))
    assert packed.of_shards(tmp_path) == {
        name: (voxels, {"00": views["00"], "02": views["02"]})
        for name, (voxels, views) in truth.items()
    }
    assert result.manifest["views"] == [0, 2, 7]
    assert result.manifest["num_views"] == 2
    assert result.absent_views == [7]
    with pytest.raises(InputError, match=r"renderings 7,8 in .* no such pair"):
        packed.prepare(tree, tree, tmp_path / "none", views=(7, 8))
    assert not (tmp_path / "none").exists()


def test_categories(tree, truth, tmp_path):
    packed.prepare(tree, tree, tmp_path, categories=("table",))
    assert packed.of_shards(tmp_path) == {
        name: files for name, files in truth.items() if TABLE in name[1]
    }
    with pytest.raises(InputError, match=r"chair, table .* received charr"):
        packed.prepare(tree, tree, tmp_path / "none", categories=("charr",))


def test_a_limit_gives_every_part_its_share(tree, truth, tmp_path):
    result = packed.prepare(tree, tree, tmp_path, limit=7)
    found = packed.of_shards(tmp_path)
    assert len(found) == 7
    assert found.items() <= truth.items()
    assert {name[0] for name in found} == set(splits.SPLITS)
    assert result.manifest["left_out"] == {}


def test_exclusions_move_no_other_model(tree, truth, tmp_path):
    excluded = {(CHAIR, "m0"), (CHAIR, "m5"), (CHAIR, "absent")}
    result = packed.prepare(tree, tree, tmp_path, excluded=excluded)
    assert packed.of_shards(tmp_path) == {
        name: files for name, files in truth.items() if tuple(name[1].split("/")) not in excluded
    }
    assert result.manifest["left_out"] == {"excluded models": 2}


@pytest.mark.parametrize("rule", [R2N2, {"rule": "random", "split_seed": 3}])
def test_the_split_is_that_of_the_tree(tree, tmp_path, rule):
    models, keys = trees.list_objects(str(tree))
    expected = splits.split_objects(models, keys, **rule)
    packed.prepare(tree, tree, tmp_path, split_rule=rule, views=(1,))
    data = shards.read_prepared(str(tmp_path))
    assert data.split_rule == expected.split_rule
    assert [model.name for model in data.parts["test"]] == [m.name for m in expected.parts["test"]]
    assert {p: {m.name for m in ms} for p, ms in data.parts.items()} == {
        p: {m.name for m in ms} for p, ms in expected.parts.items()
    }


def test_a_split_file_need_not_name_all(tree, tmp_path):
    entry = {"taxonomy_id": CHAIR, "train": ["m1"], "val": [], "test": ["m0", "m3"]}
    file = tmp_path / "ShapeNet.json"
    file.write_text(json.dumps([entry]))
    rule = {"rule": "pix2vox", "split_file": str(file)}
    result = packed.prepare(tree, tree, tmp_path / "out", split_rule=rule)
    assert set(packed.of_shards(tmp_path / "out")) == {
        ("train", f"{CHAIR}/m1"), ("test", f"{CHAIR}/m0"), ("test", f"{CHAIR}/m3"),
    }  # fmt: skip
    assert result.manifest["left_out"] == {"models that the split does not name": 6}
    assert result.manifest["split_rule"].startswith("pix2vox (ShapeNet.json, sha256 ")


# Unusable files.

MODEL = f"{CHAIR}/m2"
BAD = {
    "no PNG": ("00.png", b"GIF89a" + bytes(60), "Expected a PNG, received b'GIF89a"),
    "empty": ("02.png", b"", r"received b'' \(0 bytes\)"),
    "header only": ("02.png", packed.png()[:30], "Expected a PNG"),
    "wide": ("02.png", packed.png(width=4097), "claims 4097x137"),
    "bomb": ("02.png", packed.png(width=2**31, height=2**31), "claims 2147483648x2147483648"),
    "no width": ("02.png", packed.png(width=0), "claims 0x137"),
    "no binvox": ("model.binvox", b"text", "binvox"),
    "runs": (
        "model.binvox",
        b"#binvox 1\ndim 4 4 4\ndata\n" + b"\1\xff" * 1000,
        "expected run lengths that fill 4x4x4",
    ),
    "claim": (
        "model.binvox",
        b"#binvox 1\ndim 99999 99999 99999\ndata\n" + b"\1\xff" * 9,
        "dim",
    ),
    "nothing": ("model.binvox", b"#binvox 1\ndim 4 4 4\ndata\n\0\x40", "without an occupied voxel"),
}


def _with_bad(name, content):
    half = "ShapeNetVox32" if name == "model.binvox" else "ShapeNetRendering"
    folder = f"{half}/{MODEL}" if name == "model.binvox" else f"{half}/{MODEL}/rendering"
    return {**FILES, f"{folder}/{name}": content}, f"{folder}/{name}"


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD)
def test_unusable_files(truth, tmp_path, name, content, message):
    files, path = _with_bad(name, content)
    both = no_pack(tmp_path, files.items())
    with pytest.raises(InputError, match=message) as error:
        packed.prepare(both, both, tmp_path / "out", max_waiting=0)
    assert f"{path} in {both}" in str(error.value)
    assert "--exclude, or give --on_bad_sample=skip" in str(error.value)
    assert not (tmp_path / "out").exists()

    excluded = {tuple(MODEL.split("/"))}
    packed.prepare(both, both, tmp_path / "excluded", excluded=excluded)
    result = packed.prepare(both, both, tmp_path / "out", skip_bad=True, max_waiting=0)
    assert result.manifest["left_out"] == {"models with unusable files": 1}
    assert len(result.faults) == 1
    assert f"{path} in {both}" in result.faults[0]
    rest = {name: files for name, files in truth.items() if name[1] != MODEL}
    assert packed.of_shards(tmp_path / "out") == packed.of_shards(tmp_path / "excluded") == rest
    assert not [row for row in index_rows(tmp_path / "out") if ",m2," in row and CHAIR in row]


def test_an_unusable_file_of_a_model_that_is_not_wanted(tmp_path):
    files, _ = _with_bad("00.png", b"")
    both = no_pack(tmp_path, files.items())
    packed.prepare(both, both, tmp_path / "a", categories=(TABLE,))
    packed.prepare(both, both, tmp_path / "b", views=(1, 2))


def test_nothing_usable(tmp_path):
    files = {name: b"" if name.endswith("png") else data for name, data in FILES.items()}
    both = no_pack(tmp_path, files.items())
    with pytest.raises(InputError, match="9 models with unusable files"):
        packed.prepare(both, both, tmp_path / "out", skip_bad=True)
    assert not (tmp_path / "out").exists()


def test_sources_that_do_not_fit(tree, tmp_path):
    renderings, voxels = tree / "ShapeNetRendering", tree / "ShapeNetVox32"
    empty = packed.write_tar(tmp_path / "empty.tgz", [("notes", b"")])
    with pytest.raises(InputError, match=r"has none among its 45 files. Are .* swapped\?"):
        packed.prepare(voxels, renderings, tmp_path / "out")
    with pytest.raises(InputError, match="Expected --voxels with files"):
        packed.prepare(renderings, empty, tmp_path / "out")
    with pytest.raises(InputError, match="Expected --renderings with files"):
        packed.prepare(empty, voxels, tmp_path / "out")
    other = packed.write_tree(tmp_path / "other", {f"{CHAIR}/z/rendering/00.png": packed.png()})
    with pytest.raises(InputError, match=r"no such pair .*1 models without voxels"):
        packed.prepare(other, voxels, tmp_path / "out")
    excluded = {(synset_id, f"m{n}") for synset_id in (CHAIR, TABLE) for n in range(6)}
    with pytest.raises(InputError, match=r"none is left \(9 excluded models\)"):
        packed.prepare(renderings, voxels, tmp_path / "out", excluded=excluded)
    assert not (tmp_path / "out").exists()


def test_more_voxels_than_memory_should_hold(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "MAX_VOXELS", 2_000)
    with pytest.raises(InputError, match="Prepare some --categories at a time"):
        packed.prepare(tree, tree, tmp_path / "out")


def test_more_names_of_views_than_there_can_be(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MAX_VIEW_NAMES", 2)
    both = no_pack(tmp_path, FILES.items())
    with pytest.raises(InputError, match="at most 2 different names"):
        packed.prepare(both, both, tmp_path / "out")


# The folder, and runs that end too early.


def test_folders_that_hold_anything_else(tree, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"holds 'notes.txt'"):
            shard_writer.check_folder(str(tmp_path), overwrite)
        with pytest.raises(InputError, match=r"received the file .*notes.txt"):
            shard_writer.check_folder(str(tmp_path / "notes.txt"), overwrite)
    shard_writer.check_folder(str(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    shard_writer.check_folder(str(tmp_path / "empty"))


def test_replacing_prepared_data(tree, tmp_path):
    packed.prepare(tree, tree, tmp_path, shard_bytes=1)
    with pytest.raises(InputError, match="holds prepared data"):
        shard_writer.check_folder(str(tmp_path))
    shard_writer.check_folder(str(tmp_path), overwrite=True)
    before = len(names(tmp_path))
    lines = []
    packed.prepare(tree, tree, tmp_path, categories=("table",), say=lines.append)
    assert lines == [f"Removed the prepared data that were in {tmp_path} ({before} files)."]
    assert names(tmp_path) == [
        "index.csv", "manifest.json",
        *(f"{split}-{TABLE}-00000.tfrecord" for split in ("test", "train", "val")),
    ]  # fmt: skip


def test_an_error_leaves_nothing(tree, tmp_path):
    for folder in (tmp_path / "new", tmp_path):
        with pytest.raises(RuntimeError), shard_writer.ShardWriter(str(folder), 1) as writer:
            for split in splits.SPLITS:
                writer.write(split, (CHAIR, "m"), {"00": packed.png()})
                writer.write(split, (TABLE, "m"), {})
            raise RuntimeError
        assert names(tmp_path) == []


KILLED = """
import os, signal, sys
import packed
from r2n2_keras.preparation import shard_writer
from r2n2_keras.preparation.shard_writer import ShardWriter

tree, out, reference = sys.argv[1:]
settings = {"max_waiting": 3000, "shard_bytes": 900}


def killing(number):
    # Before every step that changes something in the folder, and after it.
    def counted(step):
        def call(*args, **kwargs):
            tick()
            result = step(*args, **kwargs)
            tick()
            return result

        def tick():
            nonlocal number
            number -= 1
            if number == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in ("write", "_publish", "_write_index", "finish", "__exit__"):
        setattr(ShardWriter, name, counted(getattr(ShardWriter, name)))


def content(folder):
    return {name: open(os.path.join(folder, name), "rb").read() for name in os.listdir(folder)}


packed.prepare(tree, tree, reference, **settings)
kills = 0
while True:
    child = os.fork()
    if not child:
        killing(kills + 1)
        packed.prepare(tree, tree, out, **settings)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    kills += 1
    finished = "manifest.json" in os.listdir(out)
    assert not finished or content(out) == content(reference)
    if not finished:
        shard_writer.check_folder(out)
    if kills % 5 == 0:
        packed.prepare(tree, tree, out, **settings)
        assert content(out) == content(reference)
assert content(out) == content(reference)
print(kills)
"""


def test_killed_anywhere_it_starts_clean(tree, tmp_path):
    """SIGKILL at every step: what transforms finished is, and the next run is as if it was the first."""
    result = subprocess.run(
        [sys.executable, "-c", KILLED, tree, tmp_path / "out", tmp_path / "reference"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert int(result.stdout) > 30


# Damaged prepared data.


@pytest.fixture
def prepared(tree, tmp_path):
    packed.prepare(tree, tree, tmp_path)
    return tmp_path


def test_a_folder_without_manifest_is_not_prepared(prepared):
    assert shards.is_prepared(str(prepared))
    (prepared / "manifest.json").unlink()
    assert not shards.is_prepared(str(prepared))


def test_a_damaged_manifest(prepared):
    path = prepared / "manifest.json"
    for content, message in (
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read"),
        (path.read_text().replace('"format_version": 1', '"format_version": 2'), "version 2"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            shards.read_prepared(str(prepared))


def test_a_shard_of_another_size(prepared):
    path = next(prepared.glob("*.tfrecord"))
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=path.name):
        shards.read_prepared(str(prepared))
    path.unlink()
    with pytest.raises(InputError, match=path.name):
        shards.read_prepared(str(prepared))


def test_a_damaged_index(prepared):
    path = prepared / "index.csv"
    path.write_text(path.read_text().replace("test", "tset"))
    with pytest.raises(InputError, match="another checksum"):
        shards.read_prepared(str(prepared))
    path.unlink()
    with pytest.raises(InputError, match=r"index\.csv"):
        shards.read_prepared(str(prepared))


def test_a_damaged_record(prepared):
    data = shards.read_prepared(str(prepared))
    model = data.parts["train"][0]
    path = Path(model.files.voxels_record.shard)
    content = bytearray(path.read_bytes())
    content[model.files.voxels_record.offset + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(tf.errors.DataLossError):
        model.files.read_voxels()


def test_categories_and_exclusions_of_prepared_data(prepared, truth):
    assert packed.of_shards(prepared, ["table"]) == {
        name: files for name, files in truth.items() if TABLE in name[1]
    }
    data = shards.read_prepared(str(prepared), excluded={(CHAIR, "m0")})
    assert len(data.objects) == len(truth) - 1
    with pytest.raises(InputError, match="received charr"):
        shards.read_prepared(str(prepared), ["charr"])
    with pytest.raises(InputError, match="none that --categories and --exclude leave"):
        shards.read_prepared(str(prepared), ["table"], {(TABLE, f"m{n}") for n in range(3)})


def test_names_of_files_in_messages(prepared):
    model = shards.read_prepared(str(prepared)).parts["train"][0]
    shard = model.files.voxels_record.shard
    assert model.files.view_path("01") == f"01.png in the record at byte 0 of {shard}"
    assert model.files.voxels_path == f"model.binvox in the record at byte 0 of {shard}"
    np.testing.assert_equal(model.views, ("00", "01", "02"))
