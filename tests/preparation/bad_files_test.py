"""Files that cannot be used: they are named, or training goes on without their models."""

import dataclasses
import itertools
import re
from pathlib import Path

import named
import numpy as np
import packed
import pytest
import tensorflow as tf
from commands import refusal
from named import COUNT, FRAME, VIEWS

from r2n2_keras.data import binvox, pipeline, trees
from r2n2_keras.data.binvox import Voxels
from r2n2_keras.data.pipeline import Sampling
from r2n2_keras.data.trees import list_objects
from r2n2_keras.preparation import bad_files, checker
from r2n2_keras.preparation.checker import BadFile
from r2n2_keras.training.stream import TrainingStream

EDGE = 4  # cells along the axes of the grids
SAMPLING = Sampling(batch_size=4, view_range=(1, VIEWS))


def _stream(models, skip=True, **changed):
    return TrainingStream(models, FRAME, EDGE, dataclasses.replace(SAMPLING, **changed), skip)


def _batches(stream, first_step=0, steps=9):
    return itertools.islice(stream.batches(first_step), steps - first_step)


def _expected(models, steps=9, **changed):
    """The samples that training draws where no file is bad."""
    sampling = dataclasses.replace(SAMPLING, **changed)
    return named.samples(
        pipeline.training_batches(models, FRAME, sampling, grid_edge=EDGE, steps=steps)
    )


def _evaluate(models):
    return pipeline.evaluation_batches(models, FRAME, batch_size=3, num_views=2, grid_edge=EDGE)


def test_explained_changes_nothing_where_all_is_well(models):
    expected = named.who(_evaluate(models))
    assert named.who(bad_files.explained(_evaluate(models), models, EDGE, 3, 2)) == expected


BINVOX = "ShapeNetVox32/03001627/m5/model.binvox"
PNG = "ShapeNetRendering/03001627/m5/rendering/01.png"


def _cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def _written(content):
    return lambda path: path.write_bytes(content)


def _full(edge, value):
    grid = Voxels(np.full((edge,) * 3, value))
    return lambda path: binvox.write(path, grid)


DAMAGES = {
    "a truncated PNG": (PNG, _cut, "expected a PNG, received one that cannot be decoded "),
    "an empty PNG": (PNG, _written(b""), "expected a PNG, received an empty"),
    "a PNG that went away": (PNG, Path.unlink, "expected to read it, received: No"),
    "a PNG of too many pixels": (
        PNG, _written(packed.png(width=60_000, height=60_000)),
        "expected a PNG of 1 to 4096 pixels along each edge",
    ),
    "a truncated binvox": (BINVOX, _cut, "expected run lengths that fill 4x4x4 cells"),
    "a binvox that went away": (BINVOX, Path.unlink, "expected to read it, received: No"),
    "another grid": (BINVOX, _full(5, True), "expected 4x4x4 cells, .* received 5x5x5"),
    "an empty grid": (BINVOX, _full(4, False), "expected an occupied voxel, received an empty"),
}  # fmt: skip


def _break(root, damage):
    """Damages a model of the tree; returns the damaged file and what should be said of it."""
    name, break_file, words = DAMAGES[damage]
    break_file(root / name)
    return str(root / name), words


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_file_to_blame_is_named(suspects, tmp_path, damage):
    path, words = _break(tmp_path, damage)
    batches = bad_files.explained(_evaluate(suspects), suspects, EDGE, 3, 2)
    message = refusal(lambda: list(batches))
    assert re.match(f"{re.escape(path)}: {words}", message)
    assert message.endswith(" or start anew and leave it out by --exclude.")
    assert "{{" not in message and "[Op:" not in message


@pytest.mark.parametrize("damage", ["a truncated PNG", "a PNG that went away", "an empty grid"])
def test_a_bad_sample_ends_training_or_is_replaced(models, suspects, tmp_path, damage):
    path, _ = _break(tmp_path, damage)
    views = {"view_ids": (1, 0), "view_range": (2, 2)}
    stream = _stream(suspects, skip=False, **views)
    assert path in refusal(lambda: list(_batches(stream)))

    stream = _stream(suspects, **views)
    seen = [index for index, _ in named.samples(_batches(stream))]
    assert seen == [6 if index == 5 else index for index, _ in _expected(models, **views)]
    ((key, message),) = stream.left_out.items()
    assert key == "03001627/m5" and path in message


def test_it_is_named_where_voxels_are_read_alone(suspects, tmp_path):
    path, _ = _break(tmp_path, "a truncated binvox")
    batches = bad_files.explained(pipeline.voxel_batches(suspects, 2, EDGE), suspects, EDGE, 2)
    assert path in refusal(lambda: list(batches))


def test_batches_before_a_broken_file_are_given(suspects, tmp_path):
    path, _ = _break(tmp_path, "a truncated binvox")
    batches = bad_files.explained(_evaluate(suspects), suspects, EDGE, 3, 2)
    assert named.who([next(batches)])[0] == [(model, (0, 1)) for model in range(3)]
    assert path in refusal(lambda: next(batches))


def test_other_errors_are_not_blamed_on_files(models):
    def fail(images, voxels):
        with tf.control_dependencies([tf.debugging.Assert(False, ["elsewhere"])]):
            return tf.identity(images), voxels

    batches = bad_files.explained(_evaluate(models).map(fail), models, EDGE, 3, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="elsewhere"):
        next(batches)


# Training without them.


def test_a_stream_without_bad_files_is_that_of_the_pipeline(models):
    stream = _stream(models)
    expected = pipeline.training_batches(
        models, FRAME, SAMPLING, grid_edge=EDGE, first_step=2, steps=8
    )
    assert named.who(_batches(stream, 2, 8)) == named.who(expected)
    assert not stream.left_out


def _break_models(root, *indices):
    for index in indices:
        _cut(root / f"ShapeNetVox32/03001627/m{index}/model.binvox")


def _break_views(root, index, *views):
    for view in views:
        _cut(root / f"ShapeNetRendering/03001627/m{index}/rendering/{view:02d}.png")


def test_several_bad_models_in_a_row(models, suspects, tmp_path):
    _break_models(tmp_path, 6, 0, 1)
    stream = _stream(suspects)
    # After the last model comes the first; a stand-in shows the views of the place that it takes.
    assert named.samples(_batches(stream)) == [
        ({6: 2, 0: 2, 1: 2}.get(index, index), views) for index, views in _expected(models)
    ]
    assert set(stream.left_out) == {f"03001627/m{index}" for index in (6, 0, 1)}


def test_a_model_is_used_as_long_as_its_bad_view_is_not_drawn(models, suspects, tmp_path):
    _break_views(tmp_path, 2, 4)
    seen = named.samples(_batches(_stream(suspects, view_range=(1, 2)), steps=30))
    expected = _expected(models, steps=30, view_range=(1, 2))
    replaced = [sample for sample in expected if sample[0] == 2 and 4 in sample[1]]
    assert 3 < len(replaced) < sum(index == 2 for index, _ in expected)
    assert seen == [(3, sample[1]) if sample in replaced else sample for sample in expected]


def test_going_on_later_finds_the_same(suspects, tmp_path):
    _break_models(tmp_path, 6)
    _break_views(tmp_path, 2, 1, 4)
    _break_views(tmp_path, 3, 0)
    through = named.who(_batches(_stream(suspects)))
    for first_step in (1, 7):
        assert named.who(_batches(_stream(suspects), first_step)) == through[first_step:]


def test_fewer_views_of_a_stand_in_change_no_other_sample(suspects, tmp_path):
    """The bad model has more views than any other."""
    for view in tmp_path.rglob("0[34].png"):
        if "m2" not in view.parts:
            view.unlink()
    found = list_objects(str(tmp_path))[0]
    sound = _expected(found, view_range=(1, 3))
    _break_models(tmp_path, 2)
    seen = named.samples(_batches(_stream(found, view_range=(1, 3))))
    for one, other in zip(seen, sound, strict=True):
        assert one == other or (other[0] == 2 and one[0] == 3)


def test_no_sound_model_is_told(suspects, tmp_path):
    _break_models(tmp_path, *range(COUNT))
    message = refusal(lambda: list(_batches(_stream(suspects))))
    assert "received 7 of which none can be used, such as: " in message


@pytest.mark.parametrize(
    "lost", [tf.errors.UnavailableError(None, None, "gone"), ConnectionError(5, "gone", "gs://a")]
)
def test_a_lost_connection_is_no_bad_file(models, monkeypatch, lost):
    def lose(*_):
        raise lost

    monkeypatch.setattr(trees.TreeFiles, "read_view", lose)
    with pytest.raises(type(lost)):
        bad_files.check(models[0], EDGE, ["00"])


def test_a_checksum_that_tensorflow_passes_over_is_no_reason_to_go_on_without_a_file(
    suspects, tmp_path
):
    """Else what stood in would depend on what else is in the batch."""
    path = tmp_path / PNG
    content = path.read_bytes()
    content = content[:33] + b"\0\0\0\1tEXtxCRC!" + content[33:]
    path.write_bytes(content)
    with pytest.raises(BadFile, match="a wrong checksum"):
        checker.check_png(content, "01.png")
    bad_files.check(suspects[5], EDGE, ["01"])


def test_what_only_the_graph_refuses_is_named_too(suspects, tmp_path, monkeypatch):
    monkeypatch.setattr(bad_files, "check_png", lambda *_: None)
    path, _ = _break(tmp_path, "a truncated PNG")
    message = refusal(lambda: bad_files.check(suspects[5], EDGE, ["01"]))
    assert message.startswith(f"{path}: expected a PNG, received one that cannot be decoded (")


def test_evaluation_goes_on_without_bad_models_on_request(suspects, tmp_path):
    _break_models(tmp_path, 0, 4)
    _break_views(tmp_path, 1, 1)
    _break_views(tmp_path, 2, 2)  # which is not read

    def evaluate(some):
        return named.samples(bad_files.explained(_evaluate(some), some, EDGE, 3, 2))

    def call(skip):
        return bad_files.on_sound_models(suspects, EDGE, evaluate, skip=skip, num_views=2)

    with pytest.raises(BadFile, match="m0"):
        call(skip=False)
    seen, sound, reasons = call(skip=True)
    assert [index for index, _ in seen] == [2, 3, 5, 6]
    assert sound == [suspects[index] for index in (2, 3, 5, 6)]
    assert [name in reason for name, reason in zip(("m0", "m1", "m4"), reasons, strict=True)]


def test_other_errors_in_training_are_not_blamed_on_files(models):
    def fail(dataset_of):
        return dataset_of().map(
            lambda images, voxels: (tf.debugging.check_numerics(images / 0, "!"), 0)
        )

    stream = TrainingStream(models, FRAME, EDGE, SAMPLING, skip=True, distribute=fail)
    with pytest.raises(tf.errors.InvalidArgumentError, match="!"):
        list(_batches(stream))
