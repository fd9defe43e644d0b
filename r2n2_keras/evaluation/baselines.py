"""What a network must beat to have learned anything: the score of the best constant answer."""

import numpy as np

from r2n2_keras.data import pipeline
from r2n2_keras.model.metrics import voxel_iou
from r2n2_keras.preparation import bad_files


def mean_shape_iou(train, val, evaluated, *, batch_size, grid_edge=pipeline.GRID_EDGE) -> float:
    """Score of the best constant answer: the mean over evaluated objects of the per-sample IoU.

    The answer is the mean grid of the training models, cut at the threshold that suits it best on
    the validation models, or on the training models where there are none of these.
    """

    def grids(objects):
        batches = pipeline.voxel_batches(objects, batch_size, grid_edge)
        explained = bad_files.explained(batches, objects, grid_edge, batch_size)
        return (batch.numpy() for batch in explained)

    mean_grid = sum(batch.sum(axis=0, dtype=np.float64) for batch in grids(train)) / len(train)

    def mean_ious(objects, thresholds):
        """Mean IoU at each threshold; one pass over the files serves all of them."""
        answer = mean_grid[None].astype(np.float32)
        ious = []
        for batch in grids(objects):
            answers = np.repeat(answer, len(batch), axis=0)
            ious.append([np.asarray(voxel_iou(batch, answers, cut)) for cut in thresholds])
        return np.concatenate(ious, axis=1).mean(axis=1)

    thresholds = np.arange(0.05, 1.0, 0.05)
    best = thresholds[np.argmax(mean_ious(val or train, thresholds))]
    return float(mean_ious(evaluated, [best])[0])
