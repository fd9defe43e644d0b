"""Which file is to blame where the pipeline fails, and how training goes on without its model.

TensorFlow's message names no file. What a batch is made of is known beforehand, so its files are
read again, one by one, until the culprit is found.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import tensorflow as tf

from r2n2_keras.data import binvox, decode, pipeline
from r2n2_keras.data.catalogue import Model
from r2n2_keras.data.decode import Frame
from r2n2_keras.data.pipeline import Sampling
from r2n2_keras.errors import InputError, reason

_PREFETCHED = 8  # an error may come to light some batches early


class BadSample(InputError):
    """A file of a model cannot be used.

    Attributes:
        model: the model.
    """

    def __init__(self, model: Model, message: str):
        super().__init__(message)
        self.model = model


def check(model: Model, frame: Frame) -> None:
    """Reads all files of a model.

    Raises:
        BadSample: one cannot be used; the message names it.
    """
    advice = "Get it again, leave the model out by --exclude, or give --on_bad_sample=skip."
    for view in model.views:
        try:
            decode.png(model.files.read_view(view))
        except tf.errors.OpError as error:
            raise BadSample(
                model,
                f"Expected a PNG, received {model.files.view_name(view)}, which cannot be decoded "
                f"({reason(error)}). {advice}",
            ) from None
    name = model.files.voxels_name
    try:
        voxels = binvox.decode(model.files.read_voxels(), name)
    except tf.errors.OpError as error:
        raise BadSample(
            model,
            f"Expected a binvox file, received {name}, which cannot be read ({reason(error)}). "
            f"{advice}",
        ) from None
    except InputError as error:
        raise BadSample(model, str(error)) from None
    if voxels.dims != (frame.grid_edge,) * 3:
        raise BadSample(
            model,
            f"{name}: expected {frame.grid_edge} cells along each axis, as the network predicts, "
            f"received {'x'.join(map(str, voxels.dims))}. Voxelise it again.",
        )
    if not voxels.data.any():
        raise BadSample(
            model,
            f"{name}: expected an object, received a grid without an occupied voxel. {advice}",
        )


def explained(
    batches: Iterable, models: Sequence[Model], frame: Frame, batch_size: int
) -> Iterator:
    """Iterates over batches that hold every model once, in order.

    Args:
        batches: a dataset of `pipeline.evaluation_batches` or `voxel_batches`.
        models: the models that it reads.
        frame: the frame that it makes.
        batch_size: of the dataset.

    Raises:
        BadSample: a file cannot be used.
    """
    iterator = iter(batches)
    for first in range(0, len(models), batch_size):
        try:
            batch = next(iterator)
        except tf.errors.OpError:
            for model in models[first : first + batch_size * _PREFETCHED]:
                check(model, frame)
            raise  # every file is sound: the fault is elsewhere
        yield batch


class TrainingStream:
    """The batches of `pipeline.training_batches`, which names bad samples or goes on without them.

    A model that cannot be used is replaced by the next one that can, wherever it comes up. What the
    others give does not change, and a run that goes on later finds the same.

    Args:
        models: the training models.
        frame: what the network takes.
        sampling: how samples are drawn.
        skip: go on without a model that cannot be used, instead of raising.
        distribute: makes of a dataset what is iterated over.

    Attributes:
        left_out: {number of the model: what is wrong with it}.
    """

    def __init__(
        self,
        models: Sequence[Model],
        frame: Frame,
        sampling: Sampling,
        skip: bool = False,
        distribute: Callable = lambda dataset: dataset,
    ):
        self._models = models
        self._frame = frame
        self._sampling = sampling
        self._skip = skip
        self._distribute = distribute
        self.left_out: dict[int, str] = {}

    def batches(self, first_step: int, steps: int) -> Iterator:
        """Batches number `first_step` to `steps - 1`.

        Raises:
            BadSample: a file cannot be used, and bad samples are not skipped.
            InputError: no model is left.
        """
        step = first_step
        while step < steps:
            iterator = iter(self._distribute(self._dataset(step, steps)))
            while step < steps:
                try:
                    batch = next(iterator)
                except tf.errors.OpError:
                    if not self._find_bad(step):
                        raise  # every file is sound: the fault is elsewhere
                    break
                yield batch
                step += 1

    def _dataset(self, first_step, steps):
        return pipeline.training_batches(
            self._models,
            self._frame,
            self._sampling,
            first_step=first_step,
            steps=steps,
            replaced={index: self._stand_in(index) for index in self.left_out},
        )

    def _stand_in(self, index):
        while index in self.left_out:
            index = (index + 1) % len(self._models)
        return index

    def _find_bad(self, step):
        """Notes the models of a batch, or of those after it, that cannot be used."""
        count = len(self._models)
        for ahead in range(_PREFETCHED):
            indices = pipeline.batch_indices(count, self._sampling, step + ahead)
            indices = {self._stand_in(index) for index in indices}
            found = {index: self._fault(index) for index in sorted(indices)}
            found = {index: fault for index, fault in found.items() if fault}
            if found:
                self.left_out.update(found)
                if len(self.left_out) == count:
                    raise InputError(
                        f"Expected training models with sound files, received {count} models of "
                        f"which none can be used, such as: {next(iter(found.values()))}"
                    )
                return True
        return False

    def _fault(self, index):
        """What is wrong with a model; None where nothing is."""
        try:
            check(self._models[index], self._frame)
        except BadSample as error:
            if not self._skip:
                raise
            return str(error)
        return None
