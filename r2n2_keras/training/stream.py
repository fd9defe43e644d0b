"""The endless stream of training batches, and how it goes on without files that cannot be used."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

from r2n2_keras.data import pipeline
from r2n2_keras.data.objects import Object
from r2n2_keras.data.pipeline import Sampling
from r2n2_keras.errors import InputError
from r2n2_keras.model.image_spec import ImageSpec
from r2n2_keras.preparation import bad_files
from r2n2_keras.preparation.checker import BadFile

_AHEAD = 4  # batches


@dataclasses.dataclass
class TrainingStream:
    """The batches of `pipeline.training_batches`, which names bad samples or goes on without them.

    Where a sample's own views or voxels cannot be used and `skip` is set, the next model stands in
    for it, with views drawn as if it had been its turn. That depends on the files, the seed and the
    step alone: the other samples stay what they are, and a run that goes on later finds the same.

    `distribute` makes what is iterated over of a function of (worker, workers, parts) that gives
    such datasets.
    """

    objects: Sequence[Object]
    image_spec: ImageSpec
    grid_edge: int
    sampling: Sampling
    skip: bool = False
    distribute: Callable = lambda dataset_of: dataset_of()
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)  # {object: what is wrong}

    def __post_init__(self):
        self._stand_ins: dict[tuple[int, int], int] = {}
        self._made = None  # (first step, number of stand-ins, dataset): making one takes a while

    def dataset(self, first_step: int):
        """The batches from number `first_step` on, distributed, without an end."""
        key = first_step, len(self._stand_ins)
        if self._made is None or self._made[:2] != key:
            dataset_of = functools.partial(
                pipeline.training_batches,
                self.objects,
                self.image_spec,
                self.sampling,
                grid_edge=self.grid_edge,
                first_step=first_step,
                stand_ins=self._stand_ins,
            )
            self._made = *key, self.distribute(dataset_of)
        return self._made[2]

    def batches(self, first_step: int) -> Iterator:
        """Yields batches; an InputError for a bad file that is not skipped, or if none is left."""
        step = first_step
        while True:
            iterator = iter(self.dataset(step))
            while True:
                try:
                    batch = next(iterator)
                except bad_files.OF_FILES:
                    # What runs ahead, to fill several devices, may fail ahead of its turn.
                    if not any(self._replace_bad(step + ahead) for ahead in range(_AHEAD)):
                        raise  # every file is sound: the reason is elsewhere
                    break
                yield batch
                step += 1

    def names(self, step: int) -> list[str]:
        return [self.objects[index].name for index, _ in self._samples(step)]

    def _replace_bad(self, step):
        """Finds stand-ins for the samples of a batch that cannot be used; False where all can."""
        count = len(self.objects)
        before = len(self._stand_ins)
        samples = self._samples(step)
        for place in range(self.sampling.batch_size):
            tried = 0
            while reason := self._bad_file(samples[place]):
                tried += 1
                if tried == count:
                    raise InputError(
                        f"Expected training objects with sound files, received {count} of which "
                        f"none can be used, such as: {reason}"
                    )
                self._stand_ins[step, place] = (samples[place][0] + 1) % count
                samples = self._samples(step)
        return len(self._stand_ins) > before

    def _samples(self, step):
        return pipeline.batch_samples(self.objects, self.sampling, step, self._stand_ins)

    def _bad_file(self, sample):
        one, views = self.objects[sample[0]], sample[1]
        try:
            bad_files.check(one, self.grid_edge, views)
        except BadFile as error:
            if not self.skip:
                raise
            if one.name not in self.left_out:
                print(f"Going on without {one.name}: {error.reason}", flush=True)
            self.left_out[one.name] = error.reason
            return error.reason
        return None
