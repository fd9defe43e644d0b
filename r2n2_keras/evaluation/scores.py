"""Scores of a model on a split: voxel IoU, average precision and loss of every sample.

Letters: B batch, T views, N grid edge, S samples.
"""

import dataclasses

import numpy as np

from r2n2_keras.data import faults, pipeline
from r2n2_keras.evaluation.metrics import voxel_iou
from r2n2_keras.training.steps import make_eval_step, sample_losses


@dataclasses.dataclass(frozen=True)
class ViewScores:
    """Scores of every sample with a number of views.

    Attributes:
        views: how many views the network saw.
        iou: {threshold: float `(S,)`}.
        average_precision: float `(S,)`.
        loss: binary cross-entropy, float `(S,)`.
    """

    views: int
    iou: dict[float, np.ndarray]
    average_precision: np.ndarray
    loss: np.ndarray


def score(model, models, frame, *, eval_views, thresholds, batch_size, view_ids=()):
    """Scores the network on every model, once per number of views.

    A sample's first n renderings are its n views, so more views always add to fewer.

    Args:
        model: an `R2N2`.
        models: the models of a split, S of them.
        frame: what the network takes.
        eval_views: numbers of views.
        thresholds: of the IoU.
        batch_size: samples at a time.
        view_ids: the renderings to use, in this order, instead of the first ones.

    Returns:
        One `ViewScores` per number of views.
    """
    predict = make_eval_step(model, thresholds[0])
    columns = {views: [] for views in eval_views}
    batches = pipeline.evaluation_batches(
        models, frame, batch_size=batch_size, num_views=max(eval_views), view_ids=view_ids
    )
    most = max(eval_views)
    for images, voxels in faults.explained(batches, models, frame, batch_size, most, view_ids):
        for views in eval_views:
            _, _, occupancy = predict(images[:, :views], voxels)
            columns[views].append(_score_batch(voxels.numpy(), occupancy.numpy(), thresholds))
    return [_collect(views, columns[views], thresholds) for views in eval_views]


def examples(model, models, frame, *, num_views, threshold, view_ids=()):
    """One sample of each category, to look at.

    Returns:
        Tuples of images `(T, H, W, C)`, predicted voxels and true voxels, both bool `(N, N, N)`,
        and a caption.
    """
    chosen = list({model.synset_id: model for model in reversed(models)}.values())[::-1]
    batches = pipeline.evaluation_batches(
        chosen, frame, batch_size=1, num_views=num_views, view_ids=view_ids
    )
    rows = []
    for sample, (images, voxels) in zip(
        chosen, faults.explained(batches, chosen, frame, 1, num_views, view_ids), strict=True
    ):
        occupancy = model.predict(images, verbose=0)
        iou = float(voxel_iou(voxels, occupancy, threshold)[0])
        caption = f"{sample.category}, IoU {iou:.2f}"
        rows.append((images[0].numpy(), occupancy[0] > threshold, voxels[0].numpy() > 0.5, caption))
    return rows


def _score_batch(voxels, occupancy, thresholds):
    """`(B, thresholds + 2)`: IoU at each threshold, average precision, loss."""
    ious = [np.asarray(voxel_iou(voxels, occupancy, threshold)) for threshold in thresholds]
    precision = [average_precision(*pair) for pair in zip(voxels, occupancy, strict=True)]
    losses = np.asarray(sample_losses(voxels, occupancy))
    return np.stack([*ious, precision, losses], axis=1)


def _collect(views, batches, thresholds):
    *ious, precision, losses = np.concatenate(batches).T
    return ViewScores(views, dict(zip(thresholds, ious, strict=True)), precision, losses)


def average_precision(voxels: np.ndarray, occupancy: np.ndarray) -> float:
    """Area under the precision-recall curve of one sample's cells, as a step function.

    The measure of the original's test code, which takes it from scikit-learn.

    Args:
        voxels: `(N, N, N)` of 0 and 1, at least one cell occupied.
        occupancy: `(N, N, N)` probabilities.
    """
    order = np.argsort(-occupancy, axis=None, kind="stable")
    scores, hits = occupancy.ravel()[order], voxels.ravel()[order] > 0.5
    # Cells of equal probability enter together.
    last_of_score = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    found = np.cumsum(hits)[last_of_score]
    precision = found / (last_of_score + 1)
    recall = found / found[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def mean_shape_iou(train, val, evaluated, frame, *, batch_size) -> float:
    """Score of the best constant answer: what a network must beat to have learned anything.

    The answer is the mean grid of the training models, cut at the threshold that suits it best on
    the validation models.

    Args:
        train: training models.
        val: validation models; the training models stand in where there are none.
        evaluated: models to score.
        frame: what the network takes.
        batch_size: samples at a time.

    Returns:
        Mean over the evaluated models of the per-sample IoU.
    """

    def grids(models):
        batches = pipeline.voxel_batches(models, frame, batch_size)
        return (batch.numpy() for batch in faults.explained(batches, models, frame, batch_size))

    mean_grid = sum(batch.sum(axis=0, dtype=np.float64) for batch in grids(train)) / len(train)

    def mean_ious(models, thresholds):
        """Mean IoU at each threshold; one pass over the files serves all of them."""
        answer = mean_grid[None].astype(np.float32)
        ious = []
        for batch in grids(models):
            answers = np.repeat(answer, len(batch), axis=0)
            ious.append([np.asarray(voxel_iou(batch, answers, cut)) for cut in thresholds])
        return np.concatenate(ious, axis=1).mean(axis=1)

    thresholds = np.arange(0.05, 1.0, 0.05)
    best = thresholds[np.argmax(mean_ious(val or train, thresholds))]
    return float(mean_ious(evaluated, [best])[0])
