"""Which file is to blame where the pipeline fails, and how to go on without its model.

TensorFlow's message names no file. What a batch is made of is known beforehand, so its files are
read again, one by one, until the culprit is found.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import tensorflow as tf

from r2n2_keras.data import images, pipeline
from r2n2_keras.data.objects import Object
from r2n2_keras.errors import InputError, reason
from r2n2_keras.preparation.checker import BadFile, Kind, check_png, check_voxels, unreadable

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


def check(one: Object, grid_edge: int, views: Sequence[str]) -> None:
    """Reads the voxels and some renderings of an object; `BadFile` where one cannot be used."""
    files = one.files
    try:
        for view in dict.fromkeys(views):
            path = files.view_path(view)
            _check_view(_read(files.read_view, path, view), path)
        path = files.voxels_path
        check_voxels(_read(files.read_voxels, path), path, grid_edge)
    except BadFile as error:
        raise error.advised(_ADVICE) from None


def _read(call, path, *args):
    try:
        return call(*args)
    except ConnectionError:
        raise
    except OF_FILES as error:
        raise unreadable(path, error) from None


def _check_view(content, path):
    """Lets the graph decide, as what training does must not depend on who looks at a file."""
    try:
        images.decode_png(content)
    except OF_FILES as error:
        check_png(content, path)  # says more
        text = f"expected a PNG, received one that cannot be decoded ({reason(error)})"
        raise BadFile(Kind.PNG, path, text) from None


def explained(
    batches: Iterable,
    objects: Sequence[Object],
    grid_edge: int,
    batch_size: int,
    num_views: int = 0,
    view_ids: Sequence[int] = (),
) -> Iterator:
    """Iterates over batches that hold every object once, in order; a bad file raises `BadFile`.

    They come from `pipeline.evaluation_batches` or `voxel_batches`, made of the same arguments.
    """
    iterator = iter(batches)
    for first in range(0, len(objects), batch_size):
        try:
            batch = next(iterator)
        except OF_FILES:
            for one in objects[first : first + batch_size]:
                check(one, grid_edge, pipeline.evaluation_views(one, num_views, view_ids))
            raise  # every file is sound: the reason is elsewhere
        yield batch


class EvaluationBatches:
    """`pipeline.evaluation_batches` for a network, as `explained`; can be iterated over again."""

    def __init__(self, model, objects, batch_size, num_views, view_ids=()):
        grid_edge = model.output_shape[-1]
        self._batches = pipeline.evaluation_batches(
            objects,
            model.image_spec,
            batch_size=batch_size,
            num_views=num_views,
            view_ids=view_ids,
            grid_edge=grid_edge,
        )
        self._made_of = objects, grid_edge, batch_size, num_views, view_ids

    def __iter__(self):
        return explained(self._batches, *self._made_of)


def on_sound_models(
    objects: Sequence[Object],
    grid_edge: int,
    call: Callable,
    *,
    skip: bool,
    num_views: int = 0,
    view_ids: Sequence[int] = (),
):
    """Calls a function of objects; where it raises `BadFile`, again without all such objects.

    `num_views` or `view_ids` tell which renderings it reads. Gives what the function returned, the
    objects that it got, and what is wrong with the others. Without `skip` a `BadFile` goes through;
    where no object is left, an InputError is raised.
    """
    try:
        return call(objects), objects, []
    except BadFile:
        if not skip:
            raise
    sound, reasons = [], []
    for one in objects:
        try:
            check(one, grid_edge, pipeline.evaluation_views(one, num_views, view_ids))
            sound.append(one)
        except BadFile as error:
            reasons.append(error.reason)
    if not sound:
        raise InputError(
            f"Expected models with sound files, received {len(objects)} of which none can be "
            f"used, such as: {reasons[0]}"
        )
    return call(sound), sound, reasons
