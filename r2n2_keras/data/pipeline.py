"""The tf.data pipeline: from the objects of a split to batches of views and voxels.

Everything that is drawn at random is a pure function of (seed, number of the sample), so a training
stream can be entered at any step and on any number of workers, and gives what an uninterrupted run
would have seen. A tree and the data prepared from it give the same batches.

Letters: B batch, T views, H W pixels, C channels, N grid edge.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import tensorflow as tf

from r2n2_keras.data import binvox_graph, images
from r2n2_keras.data.augmentation import NO_AUGMENTATION, Augmentation
from r2n2_keras.data.objects import GRID_EDGE, Object
from r2n2_keras.errors import InputError
from r2n2_keras.model.image_spec import ImageSpec

# Small keys shuffle badly: the one that `tf.random.experimental.index_shuffle` puts before its two.
_SHUFFLE_KEY = np.int64(498247692)
_MAX_UNROLLED = 8  # views that the graph decodes one by one instead of in a loop
# Streams of random numbers that must not meet are told apart by what is added to the seed; the last
# may go on from there.
_OBJECTS, _NUM_VIEWS, _VIEWS, _AUGMENTATION = (number << 32 for number in range(4))

# (step, place in the batch): number of the model.
StandIns = Mapping[tuple[int, int], int]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """What a training sample is drawn from."""

    batch_size: int  # samples per step, over all workers
    view_range: tuple[int, int]  # fewest and most; one number is drawn for all samples of a step
    view_ids: tuple[int, ...] = ()  # these renderings, in this order, instead of drawn ones
    view_sampling: str = "without_replacement"  # or "with_replacement", or "first": the first ones
    seed: int = 0
    augmentation: Augmentation = NO_AUGMENTATION

    @property
    def required_views(self) -> int:
        """How many different renderings an object must have."""
        return 1 if self.view_sampling == "with_replacement" else self.view_range[1]

    def indices(self, step, count):
        """Which of `count` objects are in batch number `step`: int64 `(B,)`.

        Every epoch goes through all objects in an order of its own.
        """
        numbers = step * self.batch_size + tf.range(self.batch_size, dtype=tf.int64)
        epochs = numbers // count
        seed = tf.fill(tf.shape(epochs), self._seed(_OBJECTS))
        seeds = tf.stack([tf.fill(tf.shape(epochs), _SHUFFLE_KEY), seed, epochs], axis=1)
        # `tf.random.experimental.index_shuffle` takes one seed for all.
        return tf.raw_ops.RandomIndexShuffle(
            index=numbers % count,
            seed=seeds,
            max_index=tf.fill(tf.shape(epochs), tf.cast(count - 1, tf.int64)),
            rounds=4,
        )

    def num_views(self, step):
        """How many views the samples of a batch have: an int where it is always the same."""
        fewest, most = self.view_range
        if fewest == most:
            return most
        seed = self._seeds(_NUM_VIEWS, step)
        return tf.random.stateless_uniform((), seed, fewest, most + 1, tf.int32)

    def view_indices(self, step, num_views, available, most):
        """Which of its object's renderings every sample of a batch shows: int32 `(B, T)`.

        `available`, int32 `(B,)`, is how many renderings each sample's object has, `most` how many
        any object has. Not any of the batch: a sample's views must not depend on its neighbours.
        """
        if self.view_sampling == "first":
            return tf.tile(tf.range(num_views)[None, :], [self.batch_size, 1])
        seed = self._seeds(_VIEWS, step)
        if self.view_sampling == "with_replacement":
            draws = tf.random.stateless_uniform([self.batch_size, num_views], seed)
            return tf.cast(draws * tf.cast(available[:, None], tf.float32), tf.int32)
        ranks = tf.random.stateless_uniform([self.batch_size, most], seed)
        # Where an object has fewer renderings than others, the rest of its row comes last.
        ranks += tf.cast(tf.range(most)[None, :] >= available[:, None], tf.float32)
        return tf.argsort(ranks)[:, :num_views]

    def draws(self, step, num_views):
        """What the augmentation draws for all views of a batch, `(B, T, ...)`, or None."""
        seed = self._seeds(_AUGMENTATION, step)
        return self.augmentation.draw(seed, [self.batch_size, num_views])

    def _seed(self, stream):
        return tf.constant(self.seed + stream, tf.int64)

    def _seeds(self, stream, step):
        return tf.stack([self._seed(stream), step])


def training_batches(
    objects: Sequence[Object],
    image_spec: ImageSpec,
    sampling: Sampling,
    *,
    grid_edge: int = GRID_EDGE,
    first_step: int = 0,
    steps: int | None = None,
    worker: int = 0,
    workers: int = 1,
    parts: int = 1,
    stand_ins: StandIns = MappingProxyType({}),
) -> tf.data.Dataset:
    """Batches number `first_step` to `steps - 1` of a shuffled stream, which has no end of its own.

    They are images float32 `(B, T, H, W, C)` and voxels float32 `(B, N, N, N)`. Every model comes
    once per epoch, in an order of that epoch's own. Each worker gets an equal share of every batch,
    in order, in `parts` elements of the dataset: one for each of its devices. `stand_ins` are the
    objects that take the place of samples that cannot be used. Raises an InputError where there is
    no object, one lacks views that are asked for, or a batch cannot be shared evenly.
    """
    if not objects:
        raise InputError("Expected at least one training model, received none. Give more data.")
    if sampling.batch_size % (workers * parts):
        raise InputError(
            f"Expected --batch_size to be a multiple of the {workers * parts} replicas, received "
            f"{sampling.batch_size}. Change it."
        )
    require_views(objects, sampling.required_views, sampling.view_ids, flag="--num_views")
    table = objects[0].files.table(objects)
    plan = _planner(table, len(objects), sampling, stand_ins)
    share = sampling.batch_size // workers
    mine = slice(worker * share, (worker + 1) * share)

    def sample(index, views, draws=None):
        contents, voxels = table.read(index, views)
        images = _decode(contents, views.shape[0], image_spec, sampling.augmentation, draws)
        return images, binvox_graph.decode(voxels, grid_edge)

    dataset = tf.data.Dataset.counter(first_step)
    if steps is not None:
        dataset = dataset.take(max(0, steps - first_step))
    dataset = dataset.map(lambda step: tuple(part[mine] for part in plan(step))).unbatch()
    dataset = dataset.map(sample, num_parallel_calls=tf.data.AUTOTUNE)
    return _finish(dataset.batch(share // parts, drop_remainder=True))


def batch_samples(
    objects: Sequence[Object],
    sampling: Sampling,
    step: int,
    stand_ins: StandIns = MappingProxyType({}),
) -> list[tuple[int, list[str]]]:
    """The samples of a batch of `training_batches`: numbers of objects, names of their views."""
    plan = _planner(objects[0].files.table(objects), len(objects), sampling, stand_ins)
    indices, views, *_ = plan(tf.constant(step, tf.int64))
    names = [[name.decode() for name in row] for row in views.numpy()]
    return list(zip(indices.numpy().tolist(), names, strict=True))


def _planner(table, count, sampling, stand_ins):
    """A function of a step that draws, at once, all that is drawn for its batch.

    It gives the numbers of the objects, int64 `(B,)`, the names of the views, string `(B, T)`, and
    what the augmentation drew, `(B, T, ...)`, where there is any.
    """
    places = tf.constant(list(stand_ins), tf.int64, [len(stand_ins), 2])
    objects = tf.constant(list(stand_ins.values()), tf.int64, [len(stand_ins)])

    def plan(step):
        indices = sampling.indices(step, count)
        if stand_ins:
            here = places[:, 0] == step
            indices = tf.tensor_scatter_nd_update(indices, places[here][:, 1:], objects[here])
        num_views = sampling.num_views(step)
        if sampling.view_ids:
            names = [[view_name(view) for view in sampling.view_ids]]
            views = tf.tile(tf.constant(names), [sampling.batch_size, 1])
        else:
            names, available = table.views(indices)
            chosen = sampling.view_indices(step, num_views, available, table.views.most)
            views = tf.gather(names, chosen, batch_dims=1)
            known = num_views if isinstance(num_views, int) else None
            views = tf.ensure_shape(views, (sampling.batch_size, known))
        draws = sampling.draws(step, num_views)
        return (indices, views) if draws is None else (indices, views, draws)

    return plan


def evaluation_batches(
    objects: Sequence[Object],
    image_spec: ImageSpec,
    *,
    batch_size: int,
    num_views: int,
    view_ids: Sequence[int] = (),
    grid_edge: int = GRID_EDGE,
) -> tf.data.Dataset:
    """Every model once, in order, with its first `num_views` renderings (or those of `view_ids`).

    They come as images float32 `(B, T, H, W, C)` and voxels float32 `(B, N, N, N)`; the last batch
    may be smaller.
    """
    require_views(objects, num_views, view_ids, flag="--eval_views")
    table = objects[0].files.table(objects)
    fixed = [view_name(view) for view in view_ids]

    def sample(index):
        views = tf.constant(fixed) if fixed else table.views(index[None])[0][0, :num_views]
        contents, voxels = table.read(index, views)
        images = _decode(contents, len(fixed) or num_views, image_spec)
        return images, binvox_graph.decode(voxels, grid_edge)

    dataset = tf.data.Dataset.range(len(objects))
    dataset = dataset.map(sample, num_parallel_calls=tf.data.AUTOTUNE)
    return _finish(dataset.batch(batch_size))


def evaluation_views(one: Object, num_views: int, view_ids: Sequence[int] = ()) -> list[str]:
    """Names of the renderings that `evaluation_batches` reads of an object."""
    return [view_name(view) for view in view_ids] or list(one.views[:num_views])


def voxel_batches(
    objects: Sequence[Object], batch_size: int, grid_edge: int = GRID_EDGE
) -> tf.data.Dataset:
    """The voxels alone of every object, in order: float32 `(B, N, N, N)`."""
    table = objects[0].files.table(objects)
    dataset = tf.data.Dataset.range(len(objects))
    dataset = dataset.map(
        lambda index: binvox_graph.decode(table.read_voxels(index), grid_edge),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return _finish(dataset.batch(batch_size))


def _decode(contents, count, image_spec, augmentation=NO_AUGMENTATION, draws=None):
    """Decodes the PNG files of a sample, string `(T,)`, to float32 `(T, H, W, C)`.

    `count` is T where it is known beforehand, else None; `draws` has a row for each view.
    """
    if count and count <= _MAX_UNROLLED:
        # A loop in the graph costs a seventh of the time to decode a picture.
        return images.decode_renderings(contents, count, image_spec, augmentation.transforms(draws))
    elements = (contents,) if draws is None else (contents, draws)

    def one(element):
        transforms = augmentation.transforms(None if draws is None else element[1][None])
        return images.decode_renderings(element[0][None], 1, image_spec, transforms)[0]

    return tf.map_fn(
        one,
        elements,
        parallel_iterations=1,  # samples are decoded in parallel
        fn_output_signature=tf.TensorSpec(image_spec.shape, tf.float32),
    )


def view_name(view: int) -> str:
    return f"{view:02d}"


def require_views(objects: Sequence[Object], count: int, view_ids: Sequence[int], flag: str):
    """Raises an InputError where an object lacks one of `view_ids`, or else has too few views."""
    fixed = [view_name(view) for view in view_ids]
    for one in objects:
        missing = [view for view in fixed if view not in one.views]
        if missing:
            raise InputError(
                f"Expected the renderings {', '.join(fixed)} of every object, received "
                f"{one.name} without {', '.join(missing)}. Change --view_ids."
            )
        if not fixed and len(one.views) < count:
            raise InputError(
                f"Expected at least {count} renderings of every object, received {one.name} with "
                f"{len(one.views)}. Lower {flag}."
            )


def _finish(dataset):
    options = tf.data.Options()
    # One worker reads everything: there is nothing to share out, and TensorFlow would warn of it.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
