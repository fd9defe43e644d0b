"""The tf.data pipeline: from the models of a split to batches of views and voxels.

Everything that is drawn at random is a pure function of (seed, number of the sample), so a training
stream can be entered at any step and on any number of workers, and gives what an uninterrupted run
would have seen. A tree and the data prepared from it give the same batches.

Letters: B batch, T views, H W pixels, C channels, N grid edge.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from r2n2_keras.data import decode
from r2n2_keras.data.augment import PLAIN, Augmentation
from r2n2_keras.data.catalogue import Model, TreeFiles, TreeTable
from r2n2_keras.data.decode import Frame
from r2n2_keras.data.shards import ShardTable
from r2n2_keras.errors import InputError

# Small keys shuffle badly: the one that `tf.random.experimental.index_shuffle` puts before its two.
_SHUFFLE_KEY = np.int64(498247692)
_MAX_UNROLLED = 8  # views that the graph decodes one by one instead of in a loop
# Streams of random numbers that must not meet are told apart by what is added to the seed.
_MODELS, _NUM_VIEWS, _VIEWS, _AUGMENTATION = (number << 32 for number in range(4))


@dataclasses.dataclass(frozen=True)
class Sampling:
    """What a training sample is drawn from.

    Attributes:
        batch_size: samples per step, over all workers.
        view_range: fewest and most views; one number is drawn for all samples of a step.
        view_ids: these renderings, in this order, instead of drawn ones.
        view_sampling: "without_replacement", "with_replacement", or "first": the first ones in
            order.
        seed: of all that is drawn.
        augmentation: what varies besides.
    """

    batch_size: int
    view_range: tuple[int, int]
    view_ids: tuple[int, ...] = ()
    view_sampling: str = "without_replacement"
    seed: int = 0
    augmentation: Augmentation = PLAIN

    @property
    def most_views(self) -> int:
        """How many different renderings a model must have."""
        return 1 if self.view_sampling == "with_replacement" else self.view_range[1]

    def indices(self, step, count):
        """Which of `count` models are in batch number `step`: int64 `(B,)`.

        Every epoch goes through all models in an order of its own.
        """
        numbers = step * self.batch_size + tf.range(self.batch_size, dtype=tf.int64)
        epochs = numbers // count
        seed = tf.fill(tf.shape(epochs), self._seed(_MODELS))
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

    def places(self, step, num_views, available):
        """Which of its model's renderings every sample of a batch shows: int32 `(B, T)`.

        Args:
            step: number of the batch.
            num_views: T.
            available: how many renderings each sample's model has, int32 `(B,)`.
        """
        first = tf.range(num_views)[None, :]
        if self.view_sampling == "first":
            return tf.tile(first, [self.batch_size, 1])
        seed = self._seeds(_VIEWS, step)
        if self.view_sampling == "with_replacement":
            shape = [self.batch_size, num_views]
            draws = tf.random.stateless_uniform(shape, seed)
            return tf.cast(draws * tf.cast(available[:, None], tf.float32), tf.int32)
        most = tf.reduce_max(available)
        ranks = tf.random.stateless_uniform([self.batch_size, most], seed)
        # Where a model has fewer renderings than others, the rest of its row comes last.
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
    models: Sequence[Model],
    frame: Frame,
    sampling: Sampling,
    *,
    first_step: int = 0,
    steps: int,
    worker: int = 0,
    workers: int = 1,
    replaced: Mapping[int, int] | None = None,
) -> tf.data.Dataset:
    """Batches number `first_step` to `steps - 1` of a shuffled, endless stream.

    Every model comes once per epoch, in an order of that epoch's own.

    Args:
        models: the training models.
        frame: what the network takes.
        sampling: how samples are drawn.
        first_step: number of the first batch.
        steps: number after the last batch.
        worker: which worker this is. Each gets an equal part of every batch, in order.
        workers: how many there are.
        replaced: numbers of models that cannot be used, each with the one that stands in.

    Returns:
        A dataset of images float32 `(B, T, H, W, C)` and voxels float32 `(B, N, N, N)`.

    Raises:
        InputError: a model lacks views that are asked for.
    """
    if not models:
        raise InputError("Expected at least one training model, received none. Give more data.")
    require_views(models, sampling.most_views, sampling.view_ids, flag="--num_views")
    table = _table(models)
    share = slice(
        worker * sampling.batch_size // workers, (worker + 1) * sampling.batch_size // workers
    )
    replacement = np.arange(len(models))
    for index, other in (replaced or {}).items():
        replacement[index] = other

    def plan(step):
        """What the samples of a batch are: everything that is drawn is drawn here, at once."""
        indices = sampling.indices(step, len(models))
        if replaced:
            indices = tf.gather(tf.constant(replacement), indices)
        num_views = sampling.num_views(step)
        if sampling.view_ids:
            views = [[view_name(view) for view in sampling.view_ids]]
            views = tf.tile(tf.constant(views), [sampling.batch_size, 1])
        else:
            views, available = table.views(indices)
            places = sampling.places(step, num_views, available)
            views = tf.gather(views, places, batch_dims=1)
            known = num_views if isinstance(num_views, int) else None
            views = tf.ensure_shape(views, (sampling.batch_size, known))
        parts = [indices, views]
        draws = sampling.draws(step, num_views)
        if draws is not None:
            parts.append(draws)
        return tuple(part[share] for part in parts)

    def sample(index, views, draws=None):
        contents, voxels = table.read(index, views)
        images = _decode(contents, views.shape[0], frame, sampling.augmentation, draws)
        return images, decode.binvox(voxels, frame.grid_edge)

    dataset = tf.data.Dataset.range(first_step, steps).map(plan).unbatch()
    dataset = dataset.map(sample, num_parallel_calls=tf.data.AUTOTUNE)
    return _finish(dataset.batch(share.stop - share.start, drop_remainder=True))


def batch_indices(count: int, sampling: Sampling, step: int) -> list[int]:
    """Numbers of the models in a batch of `training_batches`, in order."""
    indices = sampling.indices(tf.constant(step, tf.int64), tf.constant(count, tf.int64))
    return indices.numpy().tolist()


def evaluation_batches(
    models: Sequence[Model],
    frame: Frame,
    *,
    batch_size: int,
    num_views: int,
    view_ids: Sequence[int] = (),
) -> tf.data.Dataset:
    """Every model once, in order, with its first `num_views` renderings (or those of `view_ids`).

    Returns:
        A dataset of images float32 `(B, T, H, W, C)` and voxels float32 `(B, N, N, N)`; the last
        batch may be smaller.
    """
    require_views(models, num_views, view_ids, flag="--eval_views or --num_views")
    fixed = [view_name(view) for view in view_ids]
    table = _table(models)

    def sample(index):
        views = tf.constant(fixed) if fixed else table.views(index[None])[0][0, :num_views]
        contents, voxels = table.read(index, views)
        images = _decode(contents, len(fixed) or num_views, frame)
        return images, decode.binvox(voxels, frame.grid_edge)

    dataset = tf.data.Dataset.range(len(models))
    dataset = dataset.map(sample, num_parallel_calls=tf.data.AUTOTUNE)
    return _finish(dataset.batch(batch_size))


def voxel_batches(models: Sequence[Model], frame: Frame, batch_size: int) -> tf.data.Dataset:
    """The voxels alone of every model, in order: float32 `(B, N, N, N)`."""
    table = _table(models)
    dataset = tf.data.Dataset.range(len(models))
    dataset = dataset.map(
        lambda index: decode.binvox(table.read_voxels(index), frame.grid_edge),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return _finish(dataset.batch(batch_size))


def _decode(contents, count, frame, augmentation=PLAIN, draws=None):
    """Decodes the views of a sample.

    Args:
        contents: PNG files, string `(T,)`.
        count: T where it is known beforehand, else None.
        frame: what the network takes.
        augmentation: what is random.
        draws: what it drew, a row for each view, or None.

    Returns:
        float32 `(T, H, W, C)`.
    """
    if count and count <= _MAX_UNROLLED:
        # A loop in the graph costs a seventh of the time to decode a picture.
        return decode.renderings(contents, count, frame, augmentation.looks(draws))
    elements = (contents,) if draws is None else (contents, draws)

    def one(element):
        looks = augmentation.looks(None if draws is None else element[1][None])
        return decode.renderings(element[0][None], 1, frame, looks)[0]

    return tf.map_fn(
        one,
        elements,
        parallel_iterations=1,  # samples are decoded in parallel
        fn_output_signature=tf.TensorSpec(frame.shape, tf.float32),
    )


def view_name(view: int) -> str:
    """Name of a rendering by its number."""
    return f"{view:02d}"


def require_views(models: Sequence[Model], count: int, view_ids: Sequence[int], flag: str):
    """Raises an InputError where a model lacks views.

    Args:
        models: the models to look at.
        count: how many views each must have, where `view_ids` is empty.
        view_ids: the views that each must have.
        flag: what to lower, in words.
    """
    fixed = [view_name(view) for view in view_ids]
    for model in models:
        missing = [view for view in fixed if view not in model.views]
        if missing:
            raise InputError(
                f"Expected the renderings {', '.join(fixed)} of every model, received "
                f"{model.key} without {', '.join(missing)}. Change --view_ids."
            )
        if not fixed and len(model.views) < count:
            raise InputError(
                f"Expected at least {count} renderings of every model, received {model.key} with "
                f"{len(model.views)}. Lower {flag}."
            )


def _table(models):
    return (TreeTable if isinstance(models[0].files, TreeFiles) else ShardTable)(models)


def _finish(dataset):
    options = tf.data.Options()
    # One worker reads everything: there is nothing to share out, and TensorFlow would warn of it.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
