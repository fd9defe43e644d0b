"""The tf.data pipeline: from the models of a split to batches of views and voxels.

Everything that is drawn at random is a pure function of (seed, number of the sample), so a training
stream can be entered at any step and gives what an uninterrupted run would have seen.

Letters: B batch, T views, H W pixels, C channels, N grid edge.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import tensorflow as tf

from r2n2_keras.data import binvox, decode
from r2n2_keras.data.catalogue import Model
from r2n2_keras.errors import InputError, reason


@dataclasses.dataclass(frozen=True)
class Frame:
    """What a network takes and gives.

    Attributes:
        image_size: edge of a view in pixels.
        channels: 3 for composited RGB, 4 for raw RGBA.
        grid_edge: cells along each axis of the output.
        background: grey level 0 to 255 behind transparent pixels.
    """

    image_size: int
    channels: int
    grid_edge: int
    background: int

    @classmethod
    def of(cls, model, background):
        """The frame of an `R2N2`."""
        return cls(model.image_size, model.channels, model.output_shape[-1], background)


def training_batches(
    models: Sequence[Model],
    frame: Frame,
    *,
    batch_size: int,
    view_range: tuple[int, int],
    view_ids: Sequence[int] = (),
    seed: int = 0,
    first_step: int = 0,
    steps: int,
) -> tf.data.Dataset:
    """Batches number `first_step` to `steps - 1` of a shuffled, endless stream.

    Every model comes once per epoch, in an order of that epoch's own. A batch has one number of
    views, drawn from `view_range`; each sample's views are drawn without replacement, in random
    order, unless `view_ids` names them.

    Returns:
        A dataset of images float32 `(B, T, H, W, C)` and voxels float32 `(B, N, N, N)`.

    Raises:
        InputError: a model lacks views that are asked for.
    """
    if not models:
        raise InputError("Expected at least one training model, received none. Give more data.")
    require_views(models, view_range[1], view_ids, flag="--num_views")
    fixed = [_view_name(view) for view in view_ids]
    table = _Table(models)
    fewest, most = view_range

    def sample(k):
        count = len(models)
        epoch = k // count
        index = tf.random.experimental.index_shuffle(
            k % count,
            seed=tf.stack([tf.cast(seed, tf.int64), epoch]),
            max_index=tf.cast(count - 1, tf.int64),
        )
        if fixed:
            views = tf.constant(fixed)
        else:
            step = k // batch_size
            num_views = tf.random.stateless_uniform(
                (), tf.stack([tf.cast(seed, tf.int64), step]), fewest, most + 1, tf.int32
            )
            available = table.views(index)
            # Another seed than the step's: + 1 keeps the two streams apart.
            ranks = tf.random.stateless_uniform(
                tf.shape(available), tf.stack([tf.cast(seed + 1, tf.int64), k])
            )
            views = tf.gather(available, tf.argsort(ranks)[:num_views])
        return table.load(index, views, frame)

    dataset = tf.data.Dataset.range(first_step * batch_size, steps * batch_size)
    dataset = dataset.map(sample, num_parallel_calls=tf.data.AUTOTUNE)
    return _finish(dataset.batch(batch_size, drop_remainder=True))


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
    fixed = [_view_name(view) for view in view_ids]
    table = _Table(models)

    def sample(index):
        views = tf.constant(fixed) if fixed else table.views(index)[:num_views]
        return table.load(index, views, frame)

    dataset = tf.data.Dataset.range(len(models))
    dataset = dataset.map(sample, num_parallel_calls=tf.data.AUTOTUNE)
    return _finish(dataset.batch(batch_size))


def voxel_batches(models: Sequence[Model], frame: Frame, batch_size: int) -> tf.data.Dataset:
    """The voxels alone of every model, in order: float32 `(B, N, N, N)`."""
    table = _Table(models)
    dataset = tf.data.Dataset.range(len(models))
    dataset = dataset.map(
        lambda index: table.load_voxels(index, frame), num_parallel_calls=tf.data.AUTOTUNE
    )
    return _finish(dataset.batch(batch_size))


def explained(batches: Iterable, models: Sequence[Model], frame: Frame) -> Iterator:
    """Iterates over batches; where making one fails, names the file that is to blame.

    Args:
        batches: a dataset of this module.
        models: the models that it reads.
        frame: the frame that it makes.

    Raises:
        InputError: a file cannot be decoded.
    """
    iterator = iter(batches)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except tf.errors.OpError:
            for model in models:
                _check_files(model, frame)
            raise  # every file is sound: the fault is elsewhere
        yield batch


def _check_files(model, frame):
    for view in model.views:
        path = model.view_path(view)
        try:
            tf.io.decode_png(tf.io.read_file(path), channels=4)
        except tf.errors.OpError as error:
            raise InputError(
                f"Expected a PNG, received {path}, which cannot be decoded "
                f"({reason(error)}). Get the file again or remove the model."
            ) from None
    try:
        content = tf.io.read_file(model.voxels).numpy()
    except tf.errors.OpError as error:
        raise InputError(
            f"Expected a binvox file, received {model.voxels}, which cannot be read "
            f"({reason(error)}). Get the file again or remove the model."
        ) from None
    voxels = binvox.decode(content, name=model.voxels)
    if voxels.dims != (frame.grid_edge,) * 3:
        raise InputError(
            f"{model.voxels}: expected {frame.grid_edge} cells along each axis, as the network "
            f"predicts, received {'x'.join(map(str, voxels.dims))}. Voxelise it again."
        )
    if not voxels.data.any():
        raise InputError(
            f"{model.voxels}: expected an object, received a grid without an occupied voxel. "
            "Remove the model."
        )


def _view_name(view):
    return f"{view:02d}"


def require_views(models: Sequence[Model], count: int, view_ids: Sequence[int], flag: str):
    """Raises an InputError where a model lacks views.

    Args:
        models: the models to look at.
        count: how many views each must have, where `view_ids` is empty.
        view_ids: the views that each must have.
        flag: what to lower, in words.
    """
    fixed = [_view_name(view) for view in view_ids]
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


class _Table:
    """The models as tensors, so that the graph finds a model's files by its index."""

    def __init__(self, models):
        self._renderings = tf.constant([model.renderings for model in models])
        self._voxels = tf.constant([model.voxels for model in models])
        self._views = tf.constant([" ".join(model.views) for model in models])

    def views(self, index):
        """Names of the renderings of a model: string `(V,)`."""
        return tf.strings.split(self._views[index])

    def load(self, index, views, frame):
        """Images `(T, H, W, C)` and voxels `(N, N, N)` of a model."""
        paths = tf.strings.join([self._renderings[index], "/", views, ".png"])

        def image(path):
            return decode.rendering(
                tf.io.read_file(path), frame.image_size, frame.channels, frame.background
            )

        shape = (frame.image_size, frame.image_size, frame.channels)
        images = tf.map_fn(image, paths, fn_output_signature=tf.TensorSpec(shape, tf.float32))
        return images, self.load_voxels(index, frame)

    def load_voxels(self, index, frame):
        """Voxels `(N, N, N)` of a model."""
        return decode.binvox(tf.io.read_file(self._voxels[index]), frame.grid_edge)


def _finish(dataset):
    options = tf.data.Options()
    # One worker reads everything: there is nothing to share out, and TensorFlow would warn of it.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
