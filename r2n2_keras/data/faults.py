"""Which file is to blame where the pipeline fails, and how to go on without its model.

TensorFlow's message names no file. What a batch is made of is known beforehand, so its files are
read again, one by one, until the culprit is found.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import tensorflow as tf

from r2n2_keras.data import binvox, decode, pipeline
from r2n2_keras.data.catalogue import Model
from r2n2_keras.data.decode import Frame
from r2n2_keras.data.pipeline import Sampling
from r2n2_keras.errors import InputError, reason

# What a file is to blame for. A lost connection or a full memory are none of these.
_OF_FILES = (
    tf.errors.InvalidArgumentError,
    tf.errors.DataLossError,
    tf.errors.NotFoundError,
    tf.errors.OutOfRangeError,
)
_AHEAD = 4  # batches
_ADVICE = (
    "Get it again, go on without the model by --on_bad_sample=skip, or start anew and leave it out "
    "by --exclude."
)


class BadSample(InputError):
    """A file of a model cannot be used."""


def check(model: Model, frame: Frame, views: Sequence[str]) -> None:
    """Reads the voxels and some of the renderings of a model.

    Raises:
        BadSample: one cannot be used; the message names it.
    """
    for view in dict.fromkeys(views):
        _check_view(model, view)
    name = model.files.voxels_name
    try:
        dims, occupied = binvox.check(model.files.read_voxels(), name)
    except _OF_FILES as error:
        raise BadSample(
            f"Expected a binvox file, received {name}, which cannot be read ({reason(error)}). "
            f"{_ADVICE}"
        ) from None
    except InputError as error:
        raise BadSample(f"{error} {_ADVICE}") from None
    if dims != (frame.grid_edge,) * 3:
        raise BadSample(
            f"{name}: expected {frame.grid_edge} cells along each axis, as the network predicts, "
            f"received {'x'.join(map(str, dims))}. {_ADVICE}"
        )
    if not occupied:
        raise BadSample(
            f"{name}: expected an object, received a grid without an occupied voxel. {_ADVICE}"
        )


def _check_view(model, view):
    name = model.files.view_name(view)
    try:
        content = model.files.read_view(view)
        if not content.startswith(decode.PNG):
            raise BadSample(
                f"Expected a PNG, received {name}, which begins with {content[:8]!r} "
                f"({len(content)} bytes). {_ADVICE}"
            )
        decode.png(content)
    except _OF_FILES as error:
        raise BadSample(
            f"Expected a PNG, received {name}, which cannot be decoded ({reason(error)}). {_ADVICE}"
        ) from None


def explained(
    batches: Iterable,
    models: Sequence[Model],
    frame: Frame,
    batch_size: int,
    num_views: int = 0,
    view_ids: Sequence[int] = (),
) -> Iterator:
    """Iterates over batches that hold every model once, in order.

    Args:
        batches: a dataset of `pipeline.evaluation_batches` or `voxel_batches`.
        models: the models that it reads.
        frame: the frame that it makes.
        batch_size: of the dataset.
        num_views: how many renderings it reads of each model.
        view_ids: which ones, where these are not the first.

    Raises:
        BadSample: a file cannot be used.
    """
    iterator = iter(batches)
    for first in range(0, len(models), batch_size):
        try:
            batch = next(iterator)
        except _OF_FILES:
            for model in models[first : first + batch_size]:
                check(model, frame, pipeline.evaluation_views(model, num_views, view_ids))
            raise  # every file is sound: the fault is elsewhere
        yield batch


def on_sound_models(
    models: Sequence[Model],
    frame: Frame,
    call: Callable,
    *,
    skip: bool,
    num_views: int = 0,
    view_ids: Sequence[int] = (),
):
    """Calls a function of models; where a file cannot be used, again without all such models.

    Args:
        models: the models.
        frame: what the network takes.
        call: a function of a list of models that raises `BadSample`.
        skip: whether to call it again instead of raising.
        num_views: how many renderings of each model it reads.
        view_ids: which ones, where these are not the first.

    Returns:
        What the function returned, the models that it was given, and what is wrong with the others.

    Raises:
        BadSample: a file cannot be used, and `skip` does not say to go on; or no model is left.
    """
    try:
        return call(models), models, []
    except BadSample:
        if not skip:
            raise
    sound, faults = [], []
    for model in models:
        try:
            check(model, frame, pipeline.evaluation_views(model, num_views, view_ids))
            sound.append(model)
        except BadSample as error:
            faults.append(str(error))
    if not sound:
        raise BadSample(
            f"Expected models with sound files, received {len(models)} of which none can be used, "
            f"such as: {faults[0]}"
        )
    return call(sound), sound, faults


class TrainingStream:
    """The batches of `pipeline.training_batches`, which names bad samples or goes on without them.

    Where a sample's own views or voxels cannot be used, the next model stands in for it, with views
    drawn as if it had been its turn. That depends on the files, the seed and the step alone: the
    other samples stay what they are, and a run that goes on later finds the same.

    Args:
        models: the training models.
        frame: what the network takes.
        sampling: how samples are drawn.
        skip: go on without a sample that cannot be used, instead of raising.
        distribute: makes what is iterated over of a function of (worker, workers, parts) that gives
            such datasets.

    Attributes:
        left_out: {name of the model: what is wrong with it}, of models for which others stood in.
    """

    def __init__(
        self,
        models: Sequence[Model],
        frame: Frame,
        sampling: Sampling,
        skip: bool = False,
        distribute: Callable = lambda dataset_of: dataset_of(),
    ):
        self._models = models
        self._frame = frame
        self._sampling = sampling
        self._skip = skip
        self._distribute = distribute
        self._stand_ins: dict[tuple[int, int], int] = {}
        self._made = None  # (first step, number of stand-ins, dataset): making one takes a while
        self.left_out: dict[str, str] = {}

    def dataset(self, first_step: int):
        """The batches from number `first_step` on, distributed, without an end."""
        key = first_step, len(self._stand_ins)
        if self._made is None or self._made[:2] != key:
            dataset_of = functools.partial(
                pipeline.training_batches,
                self._models,
                self._frame,
                self._sampling,
                first_step=first_step,
                stand_ins=self._stand_ins,
            )
            self._made = *key, self._distribute(dataset_of)
        return self._made[2]

    def batches(self, first_step: int) -> Iterator:
        """The batches from number `first_step` on.

        Raises:
            BadSample: a file cannot be used, and bad samples are not skipped; or no model is left.
        """
        step = first_step
        while True:
            iterator = iter(self.dataset(step))
            while True:
                try:
                    batch = next(iterator)
                except _OF_FILES:
                    # What runs ahead, to fill several devices, may fail ahead of its turn.
                    if not any(self._replace_bad(step + ahead) for ahead in range(_AHEAD)):
                        raise  # every file is sound: the fault is elsewhere
                    break
                yield batch
                step += 1

    def names(self, step: int) -> list[str]:
        """The models in a batch, by name."""
        return [self._models[index].key for index, _ in self._samples(step)]

    def _replace_bad(self, step):
        """Finds stand-ins for the samples of a batch that cannot be used; False where all can."""
        count = len(self._models)
        before = len(self._stand_ins)
        samples = self._samples(step)
        for place in range(self._sampling.batch_size):
            tried = 0
            while fault := self._fault(samples[place]):
                tried += 1
                if tried == count:
                    raise BadSample(
                        f"Expected training models with sound files, received {count} of which "
                        f"none can be used, such as: {fault}"
                    )
                self._stand_ins[step, place] = (samples[place][0] + 1) % count
                samples = self._samples(step)
        return len(self._stand_ins) > before

    def _samples(self, step):
        return pipeline.batch_samples(self._models, self._sampling, step, self._stand_ins)

    def _fault(self, sample):
        """What is wrong with a sample; None where nothing is."""
        model, views = self._models[sample[0]], sample[1]
        try:
            check(model, self._frame, views)
        except BadSample as error:
            if not self._skip:
                raise
            if model.key not in self.left_out:
                print(f"Going on without {model.key}: {error}", flush=True)
            self.left_out[model.key] = str(error)
            return str(error)
        return None
