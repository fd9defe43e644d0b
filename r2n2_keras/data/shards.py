"""Prepared data: TFRecord shards of the original files' bytes, and how they are read.

A folder that `prepare` wrote:

    manifest.json                    what is there, where it came from, checksums; written last
    index.csv                        a line per record: where it lies and what it holds
    <split>-<synset_id>-NNNNN.tfrecord

A record is a `tf.train.Example` with the features, all of them bytes:

    synset_id, model_id, split       one each
    views                            names of the renderings in this record, such as "03"
    renderings                       their PNG files, unchanged, in the same order
    rendering_metadata               the cameras of all views as the data set's text file has them:
                                     line n belongs to view n; at most one
    voxels                           the binvox file, unchanged; at most one

The manifest:

    format_version
    split_rule                       the rule that dealt the models, in words
    image_size, num_views            width and height, and renderings of a model: the most frequent
    views                            numbers of the views that --views kept; null: all
    sources                          {"renderings", "voxels"}: names of the archives or folders
    left_out                         {what: how many}
    models                           {split: {synset_id: {"category", "models", "shards"}}}
    shards                           of each file {"name", "records", "bytes", "sha256"}
    index                            {"name", "bytes", "sha256"}

A model is one record as a rule. Where its files lay far apart in an archive it has several, which
the index brings together; of a view that comes twice the last counts, as in an unpacked archive.
"""

import csv
import dataclasses
import errno
import hashlib
import json
import posixpath
from collections.abc import Collection, Sequence

from r2n2_keras.data import remote
from r2n2_keras.data.objects import SPLITS, DataSet, Key, Object, check_categories
from r2n2_keras.errors import InputError, reading, reason

FORMAT_VERSION = 1
MANIFEST, INDEX = "manifest.json", "index.csv"
INDEX_COLUMNS = ("split", "synset_id", "model_id", "shard", "offset", "views", "voxels")


@dataclasses.dataclass(frozen=True)
class Record:
    """A record of an object."""

    shard: str  # path of the TFRecord file
    offset: int  # where the record begins in it, in bytes
    views: tuple[str, ...]  # names of the views that it holds
    has_voxels: bool

    @property
    def place(self) -> str:
        return f"{self.shard} (record at byte {self.offset})"

    def read(self, views: Sequence[str]) -> tuple[list[bytes], bytes]:
        """The bytes of renderings and of voxels, if any; an OSError where the record is damaged."""
        from r2n2_keras.data import tables  # TensorFlow is only needed from here on

        with remote.os_errors(self.shard):
            try:
                renderings, voxels = tables.read_record_in_graph(
                    self.shard, self.offset, list(views)
                )
            except UnicodeDecodeError:  # out of TensorFlow, whose message quotes the record
                raise OSError(errno.EIO, "its bytes are no Example", self.shard) from None
            return renderings.numpy().tolist(), voxels.numpy()


@dataclasses.dataclass(frozen=True)
class ShardFiles:
    """Where an object of prepared data lies."""

    name: str  # the object's, "synset_id/model_id"
    records: tuple[Record, ...]  # in the order of their writing

    def record_of(self, view: str) -> Record:
        return next(record for record in reversed(self.records) if view in record.views)

    @property
    def voxels_record(self) -> Record:
        """The record that holds the voxels, or should."""
        holding = (record for record in reversed(self.records) if record.has_voxels)
        return next(holding, self.records[0])

    @property
    def renderings_path(self) -> str:
        return f"{self.name}/rendering in {self.records[0].place}"

    def view_path(self, view: str) -> str:
        return f"{self.name}/rendering/{view}.png in {self.record_of(view).place}"

    @property
    def voxels_path(self) -> str:
        return f"{self.name}/model.binvox in {self.voxels_record.place}"

    def read_view(self, view: str) -> bytes:
        return self.record_of(view).read([view])[0][0]

    def read_voxels(self) -> bytes:
        return self.voxels_record.read([])[1]

    def table(self, objects: Sequence[Object]):
        from r2n2_keras.data import tables

        return tables.ShardTable(objects)


def is_prepared(data_dir: str) -> bool:
    remote.require(data_dir)
    return remote.isfile(posixpath.join(data_dir, MANIFEST))


def read_manifest(data_dir: str) -> dict:
    """The manifest of prepared data; an InputError where it is damaged, or of another version."""
    path = posixpath.join(data_dir, MANIFEST)
    with reading("the manifest of prepared data", path, "Prepare the data again."):
        manifest = json.loads(_read(path))
        version = manifest["format_version"]
        sizes = {shard["name"]: shard["bytes"] for shard in manifest["shards"]}
        texts = [manifest["split_rule"], manifest["index"]["sha256"], *sizes]
        if not all(isinstance(text, str) for text in texts) or any("/" in name for name in sizes):
            raise TypeError("names and checksums are strings")
        if not all(type(size) is int and size > 0 for size in sizes.values()):
            raise TypeError("sizes are numbers above 0")
    if version != FORMAT_VERSION:
        raise InputError(
            f"Expected prepared data of format version {FORMAT_VERSION}, received version "
            f"{version!r} in {path}. Prepare the data again."
        )
    return manifest


def _check_sizes(data_dir, manifest):
    """A shard that is cut off is told before training comes to its end."""
    path = posixpath.join(data_dir, MANIFEST)
    for entry in manifest["shards"]:
        shard, size = posixpath.join(data_dir, entry["name"]), entry["bytes"]
        try:
            found = "another size" if not remote.has_size(shard, size) else None
        except OSError as error:
            found = reason(error)
        if found:
            raise InputError(
                f"Expected {size} bytes in {shard}, as {path} says, received {found}. Copy the "
                "file again, or prepare the data again."
            )


def read_prepared(
    data_dir: str, categories: Collection[str] = (), excluded: Collection[Key] = ()
) -> DataSet:
    """The objects of prepared data in a folder or URL, but for `excluded` ones.

    `categories` are names or synset ids; empty keeps all. Raises an InputError where the folder is
    damaged, or no object is left.
    """
    manifest = read_manifest(data_dir)
    _check_sizes(data_dir, manifest)
    rows = read_index(data_dir, manifest)
    wanted = check_categories(categories, {synset_id for _, (synset_id, _) in rows}, data_dir)
    parts = {split: [] for split in SPLITS}
    for (split, key), records in sorted(rows.items()):
        views = sorted({view for record in records for view in record.views})
        whole = views and any(record.has_voxels for record in records)
        if whole and key not in excluded and (not wanted or key[0] in wanted):
            files = ShardFiles("/".join(key), tuple(records))
            parts[split].append(Object(*key, tuple(views), files))
    if not any(parts.values()):
        raise InputError(
            f"Expected models in {data_dir}, received none that --categories and --exclude leave. "
            "Change them."
        )
    return DataSet(parts, manifest["split_rule"])


def read_index(data_dir: str, manifest: dict) -> dict[tuple[str, Key], list[Record]]:
    """Records by (split, key), in the order of the index; an InputError where it is damaged."""
    path = posixpath.join(data_dir, INDEX)
    content = _read(path)
    names = [shard["name"] for shard in manifest["shards"]]
    shards = {name: posixpath.join(data_dir, name) for name in names}
    if hashlib.sha256(content).hexdigest() != manifest["index"]["sha256"]:
        raise InputError(
            f"Expected the index that {MANIFEST} beside it names, received {path} with another "
            "checksum. Copy the file again, or prepare the data again."
        )
    rows: dict[tuple[str, Key], list[Record]] = {}
    with reading("the index of prepared data", path, "Prepare the data again."):
        for row in csv.DictReader(content.decode().splitlines()):
            if row["split"] not in SPLITS:
                raise ValueError(f"split {row['split']!r}")
            key = row["synset_id"], row["model_id"]
            record = Record(
                shards[row["shard"]],
                int(row["offset"]),
                tuple(row["views"].split()),
                row["voxels"] == "1",
            )
            rows.setdefault((row["split"], key), []).append(record)
    return rows


def _read(path):
    advice = "Give another --data_dir, or prepare the data again."
    with reading("prepared data", path, advice):
        return remote.read(path)
