"""What a run draws for people to look at: `curves.png` and TensorBoard."""

import ctypes
import os

import tensorflow as tf

from r2n2_keras import workdir as workdir_lib
from r2n2_keras.outputs import pictures

_SCALARS = ("loss", "iou", "val_loss", "val_iou", "learning_rate")


class Summaries:
    """Draws after each evaluation; a voxel is occupied where its occupancy is above `threshold`."""

    def __init__(self, workdir, threshold, loss):
        self._workdir = workdir
        self._threshold = threshold
        self._loss = loss
        self._tensorboard = tf.summary.create_file_writer(self._path(workdir_lib.TENSORBOARD))

    def write(self, rows, examples):
        """Draws the last of `rows`, and `examples`: (views, true voxels, occupancy, IoU) each."""
        curves = pictures.curves_picture(rows, self._loss)
        pictures.save(curves, self._path(workdir_lib.CURVES))
        figure = pictures.examples_picture(
            [
                (images, occupancy > self._threshold, voxels > 0.5, f"IoU {iou:.2f}")
                for images, voxels, occupancy, iou in examples
            ]
        )
        with self._tensorboard.as_default(step=rows[-1]["step"]):
            for name in _SCALARS:
                tf.summary.scalar(name, rows[-1][name])
            tf.summary.image("validation", pictures.to_array(figure)[None])
        self._tensorboard.flush()
        _give_memory_back()

    def _path(self, name):
        return os.path.join(self._workdir, name)


def _give_memory_back():
    """Hands what the pictures took back to the system: glibc keeps it, in more and more pieces."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass  # another C library
