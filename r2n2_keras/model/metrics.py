"""Voxel intersection over union, as the field reports it: per sample, then averaged."""

import keras
from keras import ops


def voxel_iou(voxels, occupancy, threshold):
    """Intersection over union of each sample, float32 `(B,)`; two empty grids agree: 1.

    `voxels` are `(B, N, N, N)` of 0 and 1. A voxel is predicted where its probability in
    `occupancy`, `(B, N, N, N)`, is above `threshold`.
    """
    true = ops.cast(voxels, "float32") > 0.5
    predicted = ops.cast(occupancy, "float32") > threshold
    intersection = _count(ops.logical_and(true, predicted))
    union = _count(ops.logical_or(true, predicted))
    return ops.where(union > 0, intersection / ops.maximum(union, 1.0), 1.0)


def _count(cells):
    return ops.sum(ops.cast(cells, "float32"), axis=(1, 2, 3))


@keras.saving.register_keras_serializable(package="r2n2_keras")
class VoxelIoU(keras.metrics.Metric):
    """Mean over samples of the per-sample voxel IoU, as published for 3D-R2N2 and its successors.

    `keras.metrics.BinaryIoU` pools the cells of all samples first, so large objects outweigh small
    ones; and it averages over the empty class, too.

    Args:
        threshold: a voxel is predicted where its probability is above this. Defaults to 0.4.
        name: name of the metric. Defaults to "iou".
        dtype: dtype of the running sums.

    Example: `model.compile("adam", "binary_crossentropy", metrics=[VoxelIoU(threshold=0.4)])`.
    """

    def __init__(self, threshold=0.4, name="iou", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.threshold = threshold
        self.total = self.add_weight(name="total", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch; `sample_weight` is `(B,)`."""
        iou = voxel_iou(y_true, y_pred, self.threshold)
        weight = ops.ones_like(iou) if sample_weight is None else ops.cast(sample_weight, iou.dtype)
        self.total.assign_add(ops.cast(ops.sum(iou * weight), self.dtype))
        self.count.assign_add(ops.cast(ops.sum(weight), self.dtype))

    def result(self):
        return ops.divide_no_nan(self.total, self.count)

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold}
