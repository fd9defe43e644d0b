"""Objects as tensors, so that the graph finds the files of an object by its number."""

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
        self._renderings = tf.constant([one.files.renderings for one in objects])
        self._voxels = tf.constant([one.files.voxels for one in objects])

    def read(self, index, views):
        """Bytes of the named renderings, string `(T,)`, and of the voxels of an object."""
        paths = tf.strings.join([self._renderings[index], "/", views, ".png"])
        contents = tf.map_fn(tf.io.read_file, paths, parallel_iterations=1)
        return contents, self.read_voxels(index)

    def read_voxels(self, index):
        """Bytes of the voxels of an object."""
        return tf.io.read_file(self._voxels[index])
