"""Scores of the validation objects by the network as it is."""

import numpy as np

from r2n2_keras.evaluation.scores import make_eval_step
from r2n2_keras.model.losses import LOSSES
from r2n2_keras.preparation import bad_files
from r2n2_keras.training import distribution

_EXAMPLES = 4  # drawn for TensorBoard


class Validation:
    """Scores the validation objects, every worker its share of them."""

    def __init__(self, config, strategy, cluster, model, objects):
        # As many as a training sample has at most; drawn with repetitions it may have more.
        self._num_views = min(config.view_range[1], *(len(one.views) for one in objects))
        self._config = config
        self._strategy = strategy
        self._cluster = cluster
        self._objects = objects[cluster.worker :: cluster.workers]
        self._model = model
        num_views = len(config.view_ids) or self._num_views
        self._eval_step = make_eval_step(model, config.threshold, num_views, LOSSES[config.loss])
        self._batches = None  # of all objects: making the dataset takes a while
        self.left_out = {}  # {name of an object: what is wrong with its files}

    def run(self, stop):
        """Mean loss, mean IoU and a few examples; None where `stop` tells a worker to stop.

        Examples are (views, true voxels, occupancy, IoU) of this worker's objects. Where a file
        cannot be used, and bad samples are not skipped, a BadFile is raised.
        """
        losses, ious, examples = self._score_sound(stop) if self._objects else ([], [], [])
        sums = [np.sum(losses), np.sum(ious), len(losses), bool(stop.signal)]
        loss, iou, count, stopping = distribution.total(self._strategy, self._cluster, sums)
        return None if stopping else (loss / count, iou / count, examples)

    def _score_sound(self, stop):
        result, sound, reasons = bad_files.on_sound_models(
            self._objects,
            self._model.output_shape[-1],
            lambda objects: self._score(objects, stop),
            skip=self._config.on_bad_sample == "skip",
            num_views=self._num_views,
            view_ids=self._config.view_ids,
        )
        if reasons:
            gone = [one.name for one in self._objects if one not in sound]
            self.left_out.update(zip(gone, reasons, strict=True))
            self._objects = sound
            self._batches = None
        return result

    def _score(self, objects, stop):
        config = self._config
        if self._batches is None or objects is not self._objects:
            self._batches = bad_files.EvaluationBatches(
                self._model, objects, config.batch_size, self._num_views, config.view_ids
            )
        losses, ious, examples = [], [], []
        for images, voxels in self._batches:
            loss, iou, occupancy = (x.numpy() for x in self._eval_step(images, voxels))
            losses.extend(loss.tolist())
            ious.extend(iou.tolist())
            if len(examples) < _EXAMPLES:
                examples += zip(images.numpy(), voxels.numpy(), occupancy, iou, strict=True)
            if stop.signal:
                break
        return losses, ious, examples[:_EXAMPLES]
