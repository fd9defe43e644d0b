"""Writes prepared data; `r2n2_keras.data.shards` describes what lies in the folder and reads it.

Everything is written under a name that ends in `.partial`, and renamed when it is whole. The
manifest comes last: a folder without one is not finished, whatever else lies there.
"""

import contextlib
import csv
import dataclasses
import hashlib
import json
import os
import posixpath
import re
from collections import Counter, OrderedDict

import tensorflow as tf

from r2n2_keras.data import remote
from r2n2_keras.data.categories import category_of
from r2n2_keras.data.objects import SPLITS, Key
from r2n2_keras.data.shards import FORMAT_VERSION, INDEX, INDEX_COLUMNS, MANIFEST
from r2n2_keras.errors import InputError, reason

SHARD_BYTES = 128 << 20
MAX_OPEN = 192  # shards; systems allow 256 files and more

_ROWS = "rows.csv"
_PARTIAL = ".partial"
_OURS = re.compile(
    rf"(?:(?:{'|'.join(SPLITS)})-.+-\d{{5,}}\.tfrecord|{re.escape(INDEX)}|{re.escape(MANIFEST)}|"
    rf"{re.escape(_ROWS)})(?:{re.escape(_PARTIAL)})?"
)
_FRAMING = 16  # bytes that a TFRecord adds to its data: length, checksum, ..., checksum
_PIECE = 1 << 16


@dataclasses.dataclass
class _Shard:
    name: str
    writer: tf.io.TFRecordWriter
    records: int = 0
    bytes: int = 0


def check_folder(folder: str, overwrite: bool = False) -> None:
    """Looks whether prepared data can be written to a folder; changes nothing.

    An InputError where it holds anything but prepared data, which `overwrite` may replace, or
    nothing can be written to such a URL.
    """
    remote.require(folder, writing=True)
    names = _names(folder)
    others = [name for name in names if not _OURS.fullmatch(name)]
    if others:
        raise InputError(
            f"Expected --out to be a new or empty folder, received {folder}, which holds "
            f"{others[0]!r}. Name another one."
        )
    if MANIFEST in names and not overwrite:
        raise InputError(
            f"Expected --out to be a new or empty folder, received {folder}, which holds prepared "
            "data. Name another one, or give --overwrite to replace them."
        )


def clear_folder(folder: str) -> list[str]:
    """Removes what this module writes, the manifest first; gives the names."""
    names = sorted(
        (name for name in _names(folder) if _OURS.fullmatch(name)),
        key=lambda name: (name != MANIFEST, name),
    )
    for name in names:
        tf.io.gfile.remove(posixpath.join(folder, name))
    return names


class ShardWriter:
    """Writes models of any order into shards by split and category, and an index of them.

    As a context manager it removes, after an error, all that it wrote. A shard that has reached
    `shard_bytes` is closed, and `shards` gets its {"name", "records", "bytes", "sha256"}.
    """

    def __init__(self, folder: str, shard_bytes: int = SHARD_BYTES):
        self.shards: list[dict] = []
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._is_new = not tf.io.gfile.exists(folder)
        self._open: OrderedDict[tuple[str, str], _Shard] = OrderedDict()
        self._numbers: dict[tuple[str, str], int] = {}
        try:
            tf.io.gfile.makedirs(folder)
            self._rows_file = tf.io.gfile.GFile(self._path(_ROWS + _PARTIAL), "w")
            self._rows_file.write("")
        except tf.errors.OpError as error:
            raise _unwritable(folder, error) from None
        self._rows = csv.writer(self._rows_file, lineterminator="\n")

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            return
        for file in (self._rows_file, *(shard.writer for shard in self._open.values())):
            with contextlib.suppress(tf.errors.OpError):  # the disk is full, say
                file.close()
        clear_folder(self._folder)
        if self._is_new and not tf.io.gfile.listdir(self._folder):
            tf.io.gfile.rmtree(self._folder)

    def write(
        self,
        split: str,
        key: Key,
        views: dict[str, bytes],
        cameras: bytes | None = None,
        voxels: bytes | None = None,
    ) -> None:
        """Writes one record; `views` are PNG files by the names of the views."""
        names = sorted(views)
        data = _serialised(split, key, names, [views[name] for name in names], cameras, voxels)
        shard = self._shard(split, key[0])
        row = (split, *key, shard.name, shard.bytes, " ".join(names), int(voxels is not None))
        self._rows.writerow(row)
        shard.writer.write(data)
        shard.records += 1
        shard.bytes += len(data) + _FRAMING
        if shard.bytes >= self._shard_bytes:
            self._close(split, key[0])

    def finish(self, parts: dict[Key, str], entries: dict) -> dict:
        """Closes the shards, writes the index and, last, the manifest, which it gives.

        The models that count are in `parts`. Records of others may have been written; the index
        does not name them. `entries` are what else the manifest says.
        """
        for split, synset_id in list(self._open):
            self._close(split, synset_id)
        self._rows_file.close()
        manifest = {
            "format_version": FORMAT_VERSION,
            **entries,
            "models": self._count(parts),
            "shards": sorted(self.shards, key=lambda shard: shard["name"]),
            "index": self._write_index(parts),
        }
        with tf.io.gfile.GFile(self._path(MANIFEST + _PARTIAL), "w") as file:
            file.write(json.dumps(manifest, indent=1) + "\n")
        self._publish(MANIFEST)
        return manifest

    def _count(self, parts):
        """The manifest's numbers of models and shards, by split and category."""
        counts = Counter((split, synset_id) for (synset_id, _), split in parts.items())
        return {
            split: {
                synset_id: {
                    "category": category_of(synset_id),
                    "models": counts[split, synset_id],
                    "shards": self._numbers[split, synset_id],
                }
                for synset_id in sorted(synset_id for part, synset_id in counts if part == split)
            }
            for split in SPLITS
        }

    def _path(self, name):
        return posixpath.join(self._folder, name)

    def _shard(self, split, synset_id):
        place = split, synset_id
        if place not in self._open:
            if len(self._open) == MAX_OPEN:
                self._close(*next(iter(self._open)))
            number = self._numbers.get(place, 0)
            self._numbers[place] = number + 1
            name = f"{split}-{synset_id}-{number:05d}.tfrecord"
            try:
                writer = tf.io.TFRecordWriter(self._path(name + _PARTIAL))
            except tf.errors.OpError as error:
                raise _unwritable(self._path(name), error) from None
            self._open[place] = _Shard(name, writer)
        self._open.move_to_end(place)
        return self._open[place]

    def _close(self, split, synset_id):
        shard = self._open.pop((split, synset_id))
        shard.writer.close()
        self._publish(shard.name)
        size, checksum = self._sum(shard.name)
        if size != shard.bytes:
            raise InputError(
                f"Expected {shard.bytes} bytes in {self._path(shard.name)}, which were written, "
                f"received {size}. Let no other command write to the folder."
            )
        self.shards.append(
            {"name": shard.name, "records": shard.records, "bytes": size, "sha256": checksum}
        )

    def _sum(self, name):
        """Size and SHA-256 of a file, from what a reader finds there."""
        size, checksum = 0, hashlib.sha256()
        with tf.io.gfile.GFile(self._path(name), "rb") as file:
            while piece := file.read(_PIECE):
                size += len(piece)
                checksum.update(piece)
        return size, checksum.hexdigest()

    def _write_index(self, kept):
        """Copies the rows that count, under a header; gives the file's entry in the manifest."""
        rows = self._path(_ROWS + _PARTIAL)
        with (
            tf.io.gfile.GFile(rows, "r") as source,
            tf.io.gfile.GFile(self._path(INDEX + _PARTIAL), "w") as file,
        ):
            index = csv.writer(file, lineterminator="\n")
            index.writerow(INDEX_COLUMNS)
            index.writerows(row for row in csv.reader(source) if tuple(row[1:3]) in kept)
        tf.io.gfile.remove(rows)
        self._publish(INDEX)
        size, checksum = self._sum(INDEX)
        return {"name": INDEX, "bytes": size, "sha256": checksum}

    def _publish(self, name):
        """Gives a file its final name, once it is on the disk."""
        partial = self._path(name + _PARTIAL)
        if "://" not in partial:
            descriptor = os.open(partial, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        tf.io.gfile.rename(partial, self._path(name), overwrite=True)


def _serialised(split, key, names, pngs, cameras, voxels):
    example = tf.train.Example()
    feature = example.features.feature
    texts = {"synset_id": [key[0]], "model_id": [key[1]], "split": [split], "views": names}
    values = {name: [text.encode() for text in of] for name, of in texts.items()}
    values["renderings"] = pngs
    values |= {"rendering_metadata": [cameras]} if cameras is not None else {}
    values |= {"voxels": [voxels]} if voxels is not None else {}
    for name, value in values.items():
        feature[name].bytes_list.value.extend(value)
    return example.SerializeToString(deterministic=True)


def _names(folder):
    """Names in a folder, without the slash that object stores add; none if it is absent."""
    if tf.io.gfile.exists(folder) and not tf.io.gfile.isdir(folder):
        raise InputError(
            f"Expected --out to be a folder, received the file {folder}. Name another."
        )
    if not tf.io.gfile.isdir(folder):
        return []
    return [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]


def _unwritable(path, error):
    return InputError(
        f"Expected to write {path}, received: {reason(error)}. Check the path, its permissions and "
        "the space left."
    )
