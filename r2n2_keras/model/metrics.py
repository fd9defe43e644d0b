"""Voxel intersection over union, as the field reports it: per sample, then averaged.

Only `keras` and `numpy` are imported, so the metric runs on every Keras backend.
"""

import keras
from keras import ops


def voxel_iou(voxels, occupancy, threshold):
    """Intersection over union of each sample.

    Args:
        voxels: `(B, N, N, N)` of 0 and 1.
        occupancy: `(B, N, N, N)` probabilities.
        threshold: a voxel is predicted where its probability is above this.

    Returns:
        float32 `(B,)`. Two empty grids agree: 1.
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
    """Mean over samples of the per-sample voxel IoU.

    `keras.metrics.BinaryIoU` pools the cells of all samples first, so large objects outweigh small
    ones; and it averages over the empty class, too. Published figures of 3D-R2N2 and its successors
    are per sample.

    Args:
        threshold: a voxel is predicted where its probability is above this. Defaults to 0.4.
        name: name of the metric. Defaults to "iou".
        dtype: dtype of the running sums.

    Example:
    ```
    model.compile("adam", "binary_crossentropy", metrics=[VoxelIoU(threshold=0.4)])
    ```
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
        """The mean so far."""
        return ops.divide_no_nan(self.total, self.count)

    def get_config(self):
        """Arguments that make this metric again."""
        return {**super().get_config(), "threshold": self.threshold}
