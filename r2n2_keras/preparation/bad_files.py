"""Which file is to blame where the pipeline fails, and how to go on without its model.

TensorFlow's message names no file. What a batch is made of is known beforehand, so its files are
read again, one by one, until the culprit is found.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import tensorflow as tf

from r2n2_keras.data import binvox, images, pipeline
from r2n2_keras.data.objects import Object
from r2n2_keras.errors import InputError, reason

# What a file is to blame for. A lost connection or a full memory are none of these.
OF_FILES = (
    OSError,
    tf.errors.InvalidArgumentError,
    tf.errors.DataLossError,
    tf.errors.NotFoundError,
    tf.errors.OutOfRangeError,
)
_ADVICE = (
    "Get it again, go on without the model by --on_bad_sample=skip, or start anew and leave it out "
    "by --exclude."
)


class BadSample(InputError):
    """A file of a model cannot be used."""


def check(one: Object, grid_edge: int, views: Sequence[str]) -> None:
    """Reads the voxels and some of the renderings of a model.

    Raises:
        BadSample: one cannot be used; the message names it.
    """
    for view in dict.fromkeys(views):
        _check_view(one, view)
    name = one.files.voxels_path
    try:
        dims, occupied = binvox.check(one.files.read_voxels(), name)
    except OF_FILES as error:
        raise BadSample(
            f"Expected a binvox file, received {name}, which cannot be read ({reason(error)}). "
            f"{_ADVICE}"
        ) from None
    except InputError as error:
        raise BadSample(f"{error} {_ADVICE}") from None
    if dims != (grid_edge,) * 3:
        raise BadSample(
            f"{name}: expected {grid_edge} cells along each axis, as the network predicts, "
            f"received {'x'.join(map(str, dims))}. {_ADVICE}"
        )
    if not occupied:
        raise BadSample(
            f"{name}: expected an object, received a grid without an occupied voxel. {_ADVICE}"
        )


def _check_view(one, view):
    name = one.files.view_path(view)
    try:
        content = one.files.read_view(view)
        if not content.startswith(images.PNG):
            raise BadSample(
                f"Expected a PNG, received {name}, which begins with {content[:8]!r} "
                f"({len(content)} bytes). {_ADVICE}"
            )
        images.png(content)
    except OF_FILES as error:
        raise BadSample(
            f"Expected a PNG, received {name}, which cannot be decoded ({reason(error)}). {_ADVICE}"
        ) from None


def explained(
    batches: Iterable,
    objects: Sequence[Object],
    grid_edge: int,
    batch_size: int,
    num_views: int = 0,
    view_ids: Sequence[int] = (),
) -> Iterator:
    """Iterates over batches that hold every model once, in order.

    Args:
        batches: a dataset of `pipeline.evaluation_batches` or `voxel_batches`.
        objects: the objects that it reads.
        grid_edge: of the voxels that it makes.
        batch_size: of the dataset.
        num_views: how many renderings it reads of each model.
        view_ids: which ones, where these are not the first.

    Raises:
        BadSample: a file cannot be used.
    """
    iterator = iter(batches)
    for first in range(0, len(objects), batch_size):
        try:
            batch = next(iterator)
        except OF_FILES:
            for one in objects[first : first + batch_size]:
                check(one, grid_edge, pipeline.evaluation_views(one, num_views, view_ids))
            raise  # every file is sound: the fault is elsewhere
        yield batch


def on_sound_models(
    objects: Sequence[Object],
    grid_edge: int,
    call: Callable,
    *,
    skip: bool,
    num_views: int = 0,
    view_ids: Sequence[int] = (),
):
    """Calls a function of objects; where a file cannot be used, again without all such objects.

    Args:
        objects: the objects.
        grid_edge: cells along an edge of the grids that the network predicts.
        call: a function of a list of objects that raises `BadSample`.
        skip: whether to call it again instead of raising.
        num_views: how many renderings of each model it reads.
        view_ids: which ones, where these are not the first.

    Returns:
        What the function returned, the objects that it got, and what is wrong with the others.

    Raises:
        BadSample: a file cannot be used, and `skip` does not say to go on; or no model is left.
    """
    try:
        return call(objects), objects, []
    except BadSample:
        if not skip:
            raise
    sound, faults = [], []
    for one in objects:
        try:
            check(one, grid_edge, pipeline.evaluation_views(one, num_views, view_ids))
            sound.append(one)
        except BadSample as error:
            faults.append(str(error))
    if not sound:
        raise BadSample(
            f"Expected models with sound files, received {len(objects)} of which none can be "
            f"used, such as: {faults[0]}"
        )
    return call(sound), sound, faults
