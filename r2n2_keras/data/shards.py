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

Letters: T views.
"""

import csv
import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Collection, Sequence

import tensorflow as tf

from r2n2_keras.data import remote
from r2n2_keras.data.objects import SPLITS, DataSet, Key, Object, check_categories
from r2n2_keras.data.tables import ViewTable
from r2n2_keras.errors import InputError, reason

FORMAT_VERSION = 1
MANIFEST, INDEX = "manifest.json", "index.csv"
INDEX_COLUMNS = ("split", "synset_id", "model_id", "shard", "offset", "views", "voxels")


@dataclasses.dataclass(frozen=True)
class Record:
    """A record of an object.

    Attributes:
        shard: path of the TFRecord file.
        offset: where the record begins in it, in bytes.
        views: names of the views that it holds.
        has_voxels: whether it holds the voxels.
    """

    shard: str
    offset: int
    views: tuple[str, ...]
    has_voxels: bool


@dataclasses.dataclass(frozen=True)
class ShardFiles:
    """Where an object of prepared data lies: its records, in the order of their writing."""

    records: tuple[Record, ...]

    def record_of(self, view: str) -> Record:
        """The record that holds a view."""
        return next(record for record in reversed(self.records) if view in record.views)

    @property
    def voxels_record(self) -> Record:
        """The record that holds the voxels."""
        return next(record for record in reversed(self.records) if record.has_voxels)

    def view_path(self, view: str) -> str:
        """See `objects.Files`."""
        record = self.record_of(view)
        return f"{view}.png in the record at byte {record.offset} of {record.shard}"

    @property
    def voxels_path(self) -> str:
        """See `objects.Files`."""
        record = self.voxels_record
        return f"model.binvox in the record at byte {record.offset} of {record.shard}"

    def read_view(self, view: str) -> bytes:
        """See `objects.Files`."""
        record = self.record_of(view)
        renderings, _ = read_record(record.shard, record.offset, [view])
        return renderings[0].numpy()

    def read_voxels(self) -> bytes:
        """See `objects.Files`."""
        record = self.voxels_record
        return read_record(record.shard, record.offset, [])[1].numpy()

    def table(self, objects: Sequence[Object]) -> "ShardTable":
        """See `objects.Files`."""
        return ShardTable(objects)


def read_record(shard, offset, views):
    """Reads one record in the graph, or eagerly.

    Args:
        shard: scalar string, path of a TFRecord file.
        offset: scalar int64, where the record begins.
        views: string `(T,)`, names of views that it holds.

    Returns:
        The bytes of the renderings, string `(T,)`, and of the voxels, scalar string, empty where
        the record has none.

    Raises:
        tf.errors.DataLossError: there is no whole record.
    """
    record = tf.raw_ops.TFRecordDatasetV2(
        filenames=tf.reshape(shard, [1]),
        compression_type="",
        buffer_size=tf.constant(0, tf.int64),
        byte_offsets=tf.reshape(tf.cast(offset, tf.int64), [1]),
    )
    record = tf.data.experimental.from_variant(record, tf.TensorSpec((), tf.string))
    features = tf.io.parse_single_example(
        record.take(1).get_single_element(),
        {
            "views": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
            "renderings": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
            "voxels": tf.io.FixedLenFeature([], tf.string, default_value=""),
        },
    )
    views = tf.convert_to_tensor(views, tf.string)
    # Of a view that comes twice the last counts. A record may also have none at all.
    same = views[:, None] == features["views"][None, :]
    last = tf.reduce_max(tf.where(same, tf.range(tf.size(features["views"])), -1), axis=1)
    tf.debugging.Assert(tf.reduce_all(last >= 0), ["shard: no such view"])
    return tf.gather(features["renderings"], last), features["voxels"]


class ShardTable:
    """The records of objects as tensors: the graph finds the bytes of an object by its number."""

    def __init__(self, objects: Sequence[Object]):
        records = dict.fromkeys(record for one in objects for record in one.files.records)
        numbers = {record: number for number, record in enumerate(records)}
        shards = list(dict.fromkeys(record.shard for record in records))
        places = {shard: place for place, shard in enumerate(shards)}
        self._shards = tf.constant(shards)
        self._shard_of = tf.constant([places[record.shard] for record in records], tf.int32)
        self._offsets = tf.constant([record.offset for record in records], tf.int64)
        with_voxels = [numbers[one.files.voxels_record] for one in objects]
        self._voxels_record = tf.constant(with_voxels, tf.int32)
        # One number where one record holds all, else the number of each view's record.
        self._scattered = any(len(one.files.records) > 1 for one in objects)
        self._records_of_views = tf.constant(
            [
                " ".join(str(numbers[one.files.record_of(view)]) for view in one.views)
                if len(one.files.records) > 1
                else ""
                for one in objects
            ]
        )
        self.views = ViewTable(objects)

    def read(self, index, views):
        """Bytes of the named renderings, string `(T,)`, and of the voxels of an object."""
        if not self._scattered:
            return self._read(self._voxels_record[index], views)
        return tf.cond(
            tf.equal(self._records_of_views[index], ""),
            lambda: self._read(self._voxels_record[index], views),
            lambda: self._gather(index, views),
        )

    def read_voxels(self, index):
        """Bytes of the voxels of an object."""
        return self._read(self._voxels_record[index], [])[1]

    def _read(self, record, views):
        shard = self._shards[self._shard_of[record]]
        return read_record(shard, self._offsets[record], views)

    def _gather(self, index, views):
        """The same for an object of several records."""
        records = tf.strings.to_number(tf.strings.split(self._records_of_views[index]), tf.int32)
        names, _ = self.views(index[None])
        same = tf.cast(views[:, None] == names, tf.int32)
        records = tf.gather(records, tf.argmax(same, axis=1))
        renderings = tf.map_fn(
            lambda place: self._read(place[1], place[0][None])[0][0],
            (views, records),
            fn_output_signature=tf.string,
        )
        return renderings, self.read_voxels(index)


def is_prepared(data_dir: str) -> bool:
    """Whether a folder is one that `prepare` finished."""
    remote.require(data_dir)
    return tf.io.gfile.exists(posixpath.join(data_dir, MANIFEST))


def read_manifest(data_dir: str) -> dict:
    """The manifest of prepared data; checks that the shards have the sizes that it names.

    Raises:
        InputError: the manifest or a shard is damaged, or of another version.
    """
    path = posixpath.join(data_dir, MANIFEST)
    content = _read(path)
    try:
        manifest = json.loads(content)
        version = manifest["format_version"]
        sizes = {shard["name"]: shard["bytes"] for shard in manifest["shards"]}
        texts = [manifest["split_rule"], manifest["index"]["sha256"], *sizes]
        if not all(isinstance(text, str) for text in texts) or any("/" in name for name in sizes):
            raise TypeError("names and checksums are strings")
        if not all(type(size) is int and size > 0 for size in sizes.values()):
            raise TypeError("sizes are numbers above 0")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"Expected the manifest of prepared data, received {path}, which cannot be read "
            f"({type(error).__name__}: {error}). Prepare the data again."
        ) from None
    if version != FORMAT_VERSION:
        raise InputError(
            f"Expected prepared data of format version {FORMAT_VERSION}, received version "
            f"{version!r} in {path}. Prepare the data again."
        )
    for name, size in sizes.items():
        shard = posixpath.join(data_dir, name)
        try:
            found = "another size" if not remote.has_size(shard, size) else None
        except OSError as error:
            found = reason(error)
        if found:
            raise InputError(
                f"Expected {size} bytes in {shard}, as {path} says, received {found}. Copy the "
                "file again, or prepare the data again."
            )
    return manifest


def read_prepared(
    data_dir: str, categories: Collection[str] = (), excluded: Collection[Key] = ()
) -> DataSet:
    """The objects of prepared data.

    Args:
        data_dir: the folder, or a URL.
        categories: names or synset ids to keep; empty keeps all.
        excluded: objects to leave out.

    Raises:
        InputError: the folder is damaged, or no object is left.
    """
    manifest = read_manifest(data_dir)
    rows = read_index(data_dir, manifest)
    wanted = check_categories(categories, {synset_id for _, (synset_id, _) in rows}, data_dir)
    parts = {split: [] for split in SPLITS}
    for (split, key), records in sorted(rows.items()):
        views = sorted({view for record in records for view in record.views})
        whole = views and any(record.has_voxels for record in records)
        if whole and key not in excluded and (not wanted or key[0] in wanted):
            files = ShardFiles(tuple(records))
            parts[split].append(Object(*key, tuple(views), files))
    if not any(parts.values()):
        raise InputError(
            f"Expected models in {data_dir}, received none that --categories and --exclude leave. "
            "Change them."
        )
    return DataSet(parts, manifest["split_rule"])


def read_index(data_dir: str, manifest: dict) -> dict[tuple[str, Key], list[Record]]:
    """The records of every object, by (split, (synset id, model id)), in the order of the index.

    Raises:
        InputError: the index is damaged.
    """
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
    try:
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
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise InputError(
            f"Expected the index of prepared data, received {path}, which cannot be read "
            f"({type(error).__name__}: {error}). Prepare the data again."
        ) from None
    return rows


def _read(path):
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise InputError(
            f"Expected prepared data, received {path}, which cannot be read ({reason(error)}). "
            "Give another --data_dir, or prepare the data again."
        ) from None
