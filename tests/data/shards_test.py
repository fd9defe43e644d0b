"""Prepared data are read as the tree that they hold, eagerly and in the graph, or refused."""

import json
from pathlib import Path

import packed
import pytest
import tensorflow as tf
from packed import CHAIR, TABLE

from r2n2_keras.data import shards
from r2n2_keras.data.tables import ShardTable
from r2n2_keras.errors import InputError

FILES = packed.files()


@pytest.fixture
def prepared(small, tmp_path):
    packed.prepare(small, small, tmp_path)
    return tmp_path


@pytest.mark.parametrize("max_waiting", [0, 1 << 20])
def test_the_graph_reads_what_the_tree_holds(truth, tmp_path, max_waiting):
    """Also of models whose views are scattered over several records."""
    members = sorted(FILES.items(), key=lambda item: item[0].rpartition("/")[2])  # view by view
    both = packed.write_tar(tmp_path / "both.tar", members, "w:")
    packed.prepare(both, both, tmp_path / "out", max_waiting=max_waiting)
    objects = shards.read_prepared(str(tmp_path / "out")).objects
    scattered = any(len(one.files.records) > 1 for one in objects)
    assert scattered == (max_waiting == 0)
    table = ShardTable(objects)
    index_spec = tf.TensorSpec((), tf.int64)
    read = tf.function(table.read, input_signature=[index_spec, tf.TensorSpec([None], tf.string)])
    read_voxels = tf.function(table.read_voxels, input_signature=[index_spec])
    found = {}
    for index, one in enumerate(objects):
        views = [*reversed(one.views), one.views[0]]
        pngs, voxels = read(index, views)
        assert voxels == read_voxels(index) and pngs[-1] == pngs[-2]
        found[one.name] = voxels.numpy(), dict(zip(views, pngs.numpy().tolist(), strict=True))
    assert found == {name: files for (_, name), files in truth.items()}


def test_categories_and_exclusions(prepared, truth):
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
    one = shards.read_prepared(str(prepared)).parts["train"][0]
    record = f"{one.files.voxels_record.shard} (record at byte 0)"
    assert one.views == ("00", "01", "02")
    assert one.files.view_path("01") == f"{one.name}/rendering/01.png in {record}"
    assert one.files.voxels_path == f"{one.name}/model.binvox in {record}"


# Damage.


def _edited(**changes):
    return lambda manifest: json.dumps({**manifest, **changes})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda manifest: "", "JSONDecodeError"),
        (lambda manifest: "[]", "TypeError"),
        (lambda manifest: "[" * 100_000, "RecursionError"),
        (lambda manifest: "{}", "it has no 'format_version'"),
        (_edited(format_version=2), "version 2"),
        (_edited(split_rule=7), "names and checksums are strings"),
        (_edited(shards=[{"name": "../x", "bytes": 1}]), "names and checksums are strings"),
        *[
            (_edited(shards=[{"name": "x", "bytes": size}]), "sizes are numbers above 0")
            for size in ("1", None, 0, -1, True)
        ],
    ],
)
def test_a_damaged_manifest(prepared, edit, message):
    path = prepared / "manifest.json"
    path.write_text(edit(json.loads(path.read_text())))
    with pytest.raises(InputError, match=message) as caught:
        shards.read_prepared(str(prepared))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_folder_without_manifest_is_not_prepared(prepared):
    assert shards.is_prepared(str(prepared))
    (prepared / "manifest.json").unlink()
    assert not shards.is_prepared(str(prepared))
    (prepared / "manifest.json").mkdir()
    assert not shards.is_prepared(str(prepared))


def test_shards_and_an_index_that_changed(prepared):
    shard, index = next(prepared.glob("*.tfrecord")), prepared / "index.csv"
    content, rows = shard.read_bytes(), index.read_text()
    for change, message in (
        (
            lambda: shard.write_bytes(content[:-1]),
            f"Expected {len(content)} bytes in .*{shard.name}.* received another size",
        ),
        (shard.unlink, f"{shard.name}.* received No such file"),
        (lambda: index.write_text(rows.replace("test", "tset")), "another checksum"),
        (index.unlink, r"index\.csv.* cannot be read \(No such file"),
    ):
        change()
        with pytest.raises(InputError, match=message):
            shards.read_prepared(str(prepared))
        shard.write_bytes(content)


def test_a_damaged_record(prepared):
    one = shards.read_prepared(str(prepared)).parts["train"][0]
    record = one.files.voxels_record
    path = Path(record.shard)
    content = bytearray(path.read_bytes())
    content[record.offset + 40] ^= 1
    path.write_bytes(content)
    for read in (one.files.read_voxels, lambda: one.files.read_view("00")):
        with pytest.raises(OSError, match="corrupted record"):
            read()
