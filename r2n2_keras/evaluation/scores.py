"""Scores of a model on a split: voxel IoU, average precision and loss of every sample."""

import dataclasses

import numpy as np
import tensorflow as tf

from r2n2_keras.model.losses import LOSSES, bce
from r2n2_keras.model.metrics import voxel_iou
from r2n2_keras.preparation import bad_files


def make_eval_step(model, threshold, num_views=None, loss_of=bce):
    """A function of (images, voxels) that gives losses `(B,)`, IoU `(B,)` and the occupancy.

    One graph for any batch size, whichever comes first, see `make_train_step`; a `num_views` of
    None may change from batch to batch.
    """
    images = tf.TensorSpec((None, num_views, *model.input_shape[2:]), tf.float32)
    voxels = tf.TensorSpec(model.output_shape, tf.float32)

    @tf.function(input_signature=[images, voxels])
    def eval_step(images, voxels):
        occupancy = model(images, training=False)
        iou = voxel_iou(voxels, occupancy, threshold)
        return loss_of(voxels, occupancy), iou, occupancy

    return eval_step


@dataclasses.dataclass(frozen=True)
class ViewScores:
    """Scores of each of S samples, float `(S,)`, with a number of views."""

    views: int
    iou: dict[float, np.ndarray]  # by threshold
    average_precision: np.ndarray
    loss: np.ndarray


def score(model, objects, *, eval_views, thresholds, batch_size, view_ids=(), loss="bce"):
    """Scores the network on every object: one `ViewScores` per number of views in `eval_views`.

    A sample's first n renderings are its n views, so more views always add to fewer. `view_ids` are
    the renderings to use instead, in this order.
    """
    predict = make_eval_step(model, thresholds[0])
    columns = {views: [] for views in eval_views}
    batches = bad_files.EvaluationBatches(model, objects, batch_size, max(eval_views), view_ids)
    for images, voxels in batches:
        for views in eval_views:
            _, _, occupancy = predict(images[:, :views], voxels)
            columns[views].append(_score_batch(voxels.numpy(), occupancy.numpy(), thresholds, loss))
    return [_collect(views, columns[views], thresholds) for views in eval_views]


def _score_batch(voxels, occupancy, thresholds, loss):
    """`(B, thresholds + 2)`: IoU at each threshold, average precision, loss."""
    ious = [np.asarray(voxel_iou(voxels, occupancy, threshold)) for threshold in thresholds]
    precision = [average_precision(*pair) for pair in zip(voxels, occupancy, strict=True)]
    losses = np.asarray(LOSSES[loss](voxels, occupancy))
    return np.stack([*ious, precision, losses], axis=1)


def _collect(views, batches, thresholds):
    *ious, precision, losses = np.concatenate(batches).T
    return ViewScores(views, dict(zip(thresholds, ious, strict=True)), precision, losses)


def average_precision(voxels: np.ndarray, occupancy: np.ndarray) -> float:
    """Area under the precision-recall curve of one sample's cells, as a step function.

    The measure of the original's test code, which takes it from scikit-learn. Both are `(N, N, N)`,
    the voxels of 0 and 1 with at least one cell occupied.
    """
    order = np.argsort(-occupancy, axis=None, kind="stable")
    scores, hits = occupancy.ravel()[order], voxels.ravel()[order] > 0.5
    # Cells of equal probability enter together.
    last_of_score = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    found = np.cumsum(hits)[last_of_score]
    precision = found / (last_of_score + 1)
    recall = found / found[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))
