"""Objects as tensors, so that the graph finds the files of an object by its number.

Letters: B batch, T views, V the most views of an object.
"""

from collections.abc import Sequence

import tensorflow as tf

from r2n2_keras.data.objects import Object


class ViewTable:
    """Which renderings each of some objects has, so that the graph can look it up."""

    def __init__(self, objects: Sequence[Object]):
        # Nearly all objects have the same views: a list of names is kept once.
        lists = list(dict.fromkeys(one.views for one in objects))
        numbers = {views: number for number, views in enumerate(lists)}
        self._list_of = tf.constant([numbers[one.views] for one in objects], tf.int32)
        self._names = tf.ragged.constant(lists, dtype=tf.string).to_tensor()
        self._counts = tf.constant([len(views) for views in lists], tf.int32)
        self.most = max(map(len, lists))  # renderings that any object has

    def __call__(self, indices):
        """Names, string `(B, V)`, and how many of them each object has, int32 `(B,)`."""
        lists = tf.gather(self._list_of, indices)
        return tf.gather(self._names, lists), tf.gather(self._counts, lists)


class TreeTable:
    """The files of objects in a tree."""

    def __init__(self, objects: Sequence[Object]):
        self.views = ViewTable(objects)
        self._renderings = tf.constant([one.files.renderings_path for one in objects])
        self._voxels = tf.constant([one.files.voxels_path for one in objects])

    def read(self, index, views):
        """Bytes of the named renderings, string `(T,)`, and of the voxels of an object."""
        paths = tf.strings.join([self._renderings[index], "/", views, ".png"])
        contents = tf.map_fn(tf.io.read_file, paths, parallel_iterations=1)
        return contents, self.read_voxels(index)

    def read_voxels(self, index):
        return tf.io.read_file(self._voxels[index])


class ShardTable:
    """The files of objects in prepared data."""

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
        return self._read(self._voxels_record[index], [])[1]

    def _read(self, record, views):
        shard = self._shards[self._shard_of[record]]
        return read_record(shard, self._offsets[record], views)

    def _gather(self, index, views):
        """The same as `_read` for an object of several records."""
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


def read_record(shard, offset, views):
    """Reads the record that begins at an offset in a TFRecord file, in the graph or eagerly.

    Gives the bytes of the named views, string `(T,)`, all of which it must hold, and of the voxels,
    scalar string, empty where the record has none. Raises tf.errors.DataLossError where there is no
    whole record.
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


# The same, traced once: to read by it takes a fraction of the time.
read_record_in_graph = tf.function(
    read_record,
    input_signature=[
        tf.TensorSpec((), tf.string),
        tf.TensorSpec((), tf.int64),
        tf.TensorSpec((None,), tf.string),
    ],
)
