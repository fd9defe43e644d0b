"""What is written, where, and what a run leaves that ends too early."""

import hashlib
import json
import os
from unittest import mock

import packed
import pytest
import tensorflow as tf
from packed import CHAIR, TABLE

from r2n2_keras.data.objects import SPLITS
from r2n2_keras.preparation import shard_writer


def test_a_record_holds_a_model_with_its_names(small, tmp_path):
    packed.prepare(small, small, tmp_path)
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


def test_the_manifest(small, tmp_path):
    result = packed.prepare(small, small / "ShapeNetVox32", tmp_path, shard_bytes=1, limit=7)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest == result.manifest
    files = [*manifest["shards"], manifest["index"]]
    assert {"manifest.json", *(entry["name"] for entry in files)} == set(os.listdir(tmp_path))
    for entry in files:
        content = (tmp_path / entry["name"]).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert [shard["records"] for shard in manifest.pop("shards")] == [1] * 7
    assert manifest.pop("index")["name"] == "index.csv"
    chairs, tables = ({"category": name, "models": 1, "shards": 1} for name in ("chair", "table"))
    assert manifest == {
        "format_version": 1,
        "split_rule": "r2n2",
        "image_size": [137, 137],
        "num_views": 3,
        "views": None,
        "sources": {"renderings": small.name, "voxels": "ShapeNetVox32"},
        "left_out": {},
        "models": {
            "train": {CHAIR: {**chairs, "models": 2, "shards": 2}, TABLE: tables},
            "val": {CHAIR: chairs, TABLE: tables},
            "test": {CHAIR: chairs, TABLE: tables},
        },
    }


def test_more_categories_than_files_may_be_open(tmp_path, monkeypatch):
    """And every file is on the disk before it has its final name."""
    monkeypatch.setattr(shard_writer, "MAX_OPEN", 2)
    parts = {(f"category{number % 4}", f"m{number}"): "train" for number in range(12)}
    with mock.patch("os.fsync") as sync, shard_writer.ShardWriter(str(tmp_path)) as writer:
        for number, key in enumerate(parts):
            views = {"00": packed.png(str(number))}
            writer.write("train", key, views, voxels=packed.voxels(number))
            assert len(list(tmp_path.glob("*.tfrecord.partial"))) <= 2
        writer.finish(parts, {"split_rule": "r2n2"})
    assert sync.call_count == len(os.listdir(tmp_path))
    found = packed.of_shards(tmp_path)
    assert {key: files[1]["00"] for (_, key), files in found.items()} == {
        f"category{n % 4}/m{n}": packed.png(str(n)) for n in range(12)
    }


def test_an_error_leaves_nothing(tmp_path):
    for folder in (tmp_path / "new", tmp_path):
        with pytest.raises(RuntimeError), shard_writer.ShardWriter(str(folder), 1) as writer:
            for split in SPLITS:
                writer.write(split, (CHAIR, "m"), {"00": packed.png()})
                writer.write(split, (TABLE, "m"), {})
            raise RuntimeError
        assert os.listdir(tmp_path) == []


class _Killed(BaseException):
    """Stands for SIGKILL: nothing is tidied up."""


def _kill_before_step(number):
    """Makes the writer stop before that one of the steps that change something in the folder."""

    def counted(name):
        step = getattr(shard_writer.ShardWriter, name)

        def call(*args, **kwargs):
            nonlocal number
            number -= 1
            if number == 0:
                raise _Killed
            return step(*args, **kwargs)

        return call

    steps = {name: counted(name) for name in ("write", "_publish", "_write_index", "finish")}
    return mock.patch.multiple(shard_writer.ShardWriter, __exit__=lambda *_: None, **steps)


def test_killed_anywhere_it_starts_clean(small, tmp_path):
    """What looks finished is, and the next run is as if it was the first."""
    settings = {"max_waiting": 700, "shard_bytes": 900}
    out = tmp_path / "out"
    packed.prepare(small, small, tmp_path / "reference", **settings)
    kills = 0
    while True:
        try:
            with _kill_before_step(kills + 1):
                packed.prepare(small, small, out, **settings)
            break
        except _Killed:
            kills += 1
        assert not (out / "manifest.json").exists()
        shard_writer.check_folder(str(out))
        if kills % 5 == 0:
            packed.prepare(small, small, out, **settings)
            assert packed.content(out) == packed.content(tmp_path / "reference")
    assert packed.content(out) == packed.content(tmp_path / "reference")
    assert kills > 30
