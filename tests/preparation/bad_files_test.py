"""Files that cannot be used: they are named, or training goes on without their models."""

import dataclasses
import itertools
import re
import shutil
import zlib

import named
import numpy as np
import pytest
import tensorflow as tf
from named import COUNT, FRAME, VIEWS

from r2n2_keras.data import binvox, pipeline, trees
from r2n2_keras.data.binvox import Voxels
from r2n2_keras.data.pipeline import Sampling
from r2n2_keras.data.trees import list_objects
from r2n2_keras.errors import InputError
from r2n2_keras.preparation import bad_files, checker
from r2n2_keras.preparation.checker import BadFile
from r2n2_keras.training.stream import TrainingStream

EDGE = 4  # cells along the axes of the grids
SAMPLING = Sampling(batch_size=4, view_range=(1, VIEWS))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("named")
    named.write_tree(root)
    return root


@pytest.fixture(scope="module")
def models(root):
    return list_objects(str(root))[0]


@pytest.fixture
def damaged(root, tmp_path):
    """The same files, for a test that breaks some of them."""
    return shutil.copytree(root, tmp_path / "damaged")


def _training_batches(models, sampling, **settings):
    return pipeline.training_batches(models, FRAME, sampling, grid_edge=EDGE, **settings)


def _batches(stream, first_step, steps):
    return itertools.islice(stream.batches(first_step), steps - first_step)


def _evaluate(models):
    return pipeline.evaluation_batches(models, FRAME, batch_size=3, num_views=2, grid_edge=EDGE)


def _one_line(function):
    with pytest.raises(InputError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_explained_changes_nothing_where_all_is_well(models):
    expected = named.who(_evaluate(models))
    assert named.who(bad_files.explained(_evaluate(models), models, EDGE, 3, 2)) == expected


BINVOX = "ShapeNetVox32/03001627/m5/model.binvox"
PNG = "ShapeNetRendering/03001627/m5/rendering/01.png"


def _cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def _claim(path):
    """4 billion pixels in a file of a few bytes: they are never decoded."""
    content = bytearray(path.read_bytes())
    content[16:24] = b"\xff\xff\xff\xff" * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


def _empty(path):
    binvox.write(path, Voxels(np.zeros((4, 4, 4), bool)))


def _larger(path):
    binvox.write(path, Voxels(np.ones((5, 5, 5), bool)))


DAMAGES = {
    "a truncated PNG": (PNG, _cut, "expected a PNG, received one that cannot be decoded "),
    "no PNG at all": (PNG, lambda path: path.write_text("a text"), "expected a PNG, received 6 by"),
    "an empty PNG": (PNG, lambda path: path.write_bytes(b""), "expected a PNG, received an empty"),
    "a PNG that went away": (PNG, lambda path: path.unlink(), "expected to read it, received: No"),
    "a PNG of too many pixels": (PNG, _claim, "expected a PNG of 1 to 4096 pixels along each edge"),
    "a truncated binvox": (BINVOX, _cut, "expected run lengths that fill 4x4x4 cells"),
    "no binvox at all": (BINVOX, lambda path: path.write_text("?"), "expected a binvox file"),
    "a binvox that went away": (
        BINVOX,
        lambda path: path.unlink(),
        "expected to read it, received",
    ),
    "another grid": (BINVOX, _larger, "expected 4x4x4 cells, .* received 5x5x5"),
    "an empty grid": (BINVOX, _empty, "expected an occupied voxel, received an empty grid"),
}


def _break(root, damage):
    """Damages a model of the tree; returns the damaged file and what should be said of it."""
    name, break_file, words = DAMAGES[damage]
    break_file(root / name)
    return str(root / name), words


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_file_to_blame_is_named(damaged, damage):
    models = list_objects(str(damaged))[0]
    path, words = _break(damaged, damage)
    batches = bad_files.explained(_evaluate(models), models, EDGE, 3, 2)
    message = _one_line(lambda: list(batches))
    assert re.match(f"{re.escape(path)}: {words}", message)
    assert message.endswith(" or start anew and leave it out by --exclude.")
    assert "{{" not in message and "[Op:" not in message


@pytest.mark.parametrize("damage", ["a truncated PNG", "an empty grid"])
def test_it_is_named_in_training_too(damaged, damage):
    models = list_objects(str(damaged))[0]
    path, _ = _break(damaged, damage)
    stream = TrainingStream(models, FRAME, EDGE, dataclasses.replace(SAMPLING, view_range=(5, 5)))
    assert path in _one_line(lambda: list(_batches(stream, 0, 6)))


def test_it_is_named_where_voxels_are_read_alone(damaged):
    models = list_objects(str(damaged))[0]
    path, _ = _break(damaged, "a truncated binvox")
    batches = bad_files.explained(pipeline.voxel_batches(models, 2, EDGE), models, EDGE, 2)
    assert path in _one_line(lambda: list(batches))


def test_batches_before_a_broken_file_are_given(damaged):
    models = list_objects(str(damaged))[0]
    path, _ = _break(damaged, "a truncated binvox")
    batches = bad_files.explained(_evaluate(models), models, EDGE, 3, 2)
    assert named.who([next(batches)])[0] == [(model, (0, 1)) for model in range(3)]
    assert path in _one_line(lambda: next(batches))


def test_other_errors_are_not_blamed_on_files(models):
    def fail(images, voxels):
        with tf.control_dependencies([tf.debugging.Assert(False, ["elsewhere"])]):
            return tf.identity(images), voxels

    batches = bad_files.explained(_evaluate(models).map(fail), models, EDGE, 3, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="elsewhere"):
        next(batches)


# Training without them.


def _stream(models, skip=True, **changed):
    return TrainingStream(models, FRAME, EDGE, dataclasses.replace(SAMPLING, **changed), skip)


def test_a_stream_without_bad_files_is_that_of_the_pipeline(models):
    stream = _stream(models)
    expected = pipeline.training_batches(
        models, FRAME, SAMPLING, grid_edge=EDGE, first_step=2, steps=8
    )
    assert named.who(_batches(stream, 2, 8)) == named.who(expected)
    assert not stream.left_out


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_sample_is_replaced_and_the_others_stay(damaged, models, damage):
    found = list_objects(str(damaged))[0]
    path, _ = _break(damaged, damage)
    stream = _stream(found, view_ids=(1, 0), view_range=(2, 2))
    seen = named.samples(_batches(stream, 0, 9))
    sampling = dataclasses.replace(SAMPLING, view_ids=(1, 0), view_range=(2, 2))
    expected = named.samples(_training_batches(models, sampling, steps=9))
    assert [index for index, _ in seen] == [6 if index == 5 else index for index, _ in expected]
    ((key, message),) = stream.left_out.items()
    assert key == "03001627/m5" and path in message


def _break_models(root, *indices):
    for index in indices:
        _cut(root / f"ShapeNetVox32/03001627/m{index}/model.binvox")


def _break_views(root, index, *views):
    for view in views:
        _cut(root / f"ShapeNetRendering/03001627/m{index}/rendering/{view:02d}.png")


def test_several_bad_models_in_a_row(damaged, models):
    _break_models(damaged, 6, 0, 1)
    stream = _stream(list_objects(str(damaged))[0])
    seen = named.samples(_batches(stream, 0, 9))
    expected = named.samples(_training_batches(models, SAMPLING, steps=9))
    # After the last model comes the first; a stand-in shows the views of the place that it takes.
    assert seen == [({6: 2, 0: 2, 1: 2}.get(index, index), views) for index, views in expected]
    assert set(stream.left_out) == {f"03001627/m{index}" for index in (6, 0, 1)}


def test_a_model_is_used_as_long_as_its_bad_view_is_not_drawn(damaged, models):
    _break_views(damaged, 2, 4)
    stream = _stream(list_objects(str(damaged))[0], view_range=(1, 2))
    seen = named.samples(_batches(stream, 0, 30))
    sampling = dataclasses.replace(SAMPLING, view_range=(1, 2))
    expected = named.samples(_training_batches(models, sampling, steps=30))
    replaced = [sample for sample in expected if sample[0] == 2 and 4 in sample[1]]
    assert 3 < len(replaced) < sum(index == 2 for index, _ in expected)
    assert seen == [(3, sample[1]) if sample in replaced else sample for sample in expected]


@pytest.mark.parametrize("first_step", [1, 4, 7])
def test_going_on_later_finds_the_same(damaged, first_step):
    _break_models(damaged, 6)
    _break_views(damaged, 2, 1, 4)
    _break_views(damaged, 3, 0)
    models = list_objects(str(damaged))[0]
    through = named.who(_batches(_stream(models), 0, 9))
    assert named.who(_batches(_stream(models), first_step, 9)) == through[first_step:]


def test_fewer_views_of_a_stand_in_change_no_other_sample(damaged, models):
    """The bad model has more views than any other."""
    for index in (0, 1, 3, 4, 5, 6):
        for view in (3, 4):
            (damaged / f"ShapeNetRendering/03001627/m{index}/rendering/{view:02d}.png").unlink()
    found = list_objects(str(damaged))[0]
    sound = named.samples(
        _training_batches(found, dataclasses.replace(SAMPLING, view_range=(1, 3)), steps=9)
    )
    _break_models(damaged, 2)
    seen = named.samples(_batches(_stream(found, view_range=(1, 3)), 0, 9))
    for one, other in zip(seen, sound, strict=True):
        assert one == other or (other[0] == 2 and one[0] == 3)


def test_no_sound_model_is_told(damaged):
    _break_models(damaged, *range(COUNT))
    stream = _stream(list_objects(str(damaged))[0])
    message = _one_line(lambda: list(_batches(stream, 0, 9)))
    assert "received 7 of which none can be used, such as: " in message


def test_without_skipping_the_first_bad_file_ends_it(damaged):
    _break_models(damaged, 3)
    models = list_objects(str(damaged))[0]
    with pytest.raises(BadFile, match=r"m3/model\.binvox"):
        list(_batches(_stream(models, skip=False), 0, 9))


@pytest.mark.parametrize(
    "lost", [tf.errors.UnavailableError(None, None, "gone"), ConnectionError(5, "gone", "gs://a")]
)
def test_a_lost_connection_is_no_bad_file(models, monkeypatch, lost):
    def lose(*_):
        raise lost

    monkeypatch.setattr(trees.TreeFiles, "read_view", lose)
    with pytest.raises(type(lost)):
        bad_files.check(models[0], EDGE, ["00"])


def test_a_checksum_that_tensorflow_passes_over_is_no_reason_to_go_on_without_a_file(damaged):
    """Else what stood in would depend on what else is in the batch."""
    path = damaged / PNG
    content = path.read_bytes()
    path.write_bytes(content[:33] + b"\0\0\0\1tEXtxCRC!" + content[33:])
    (one,) = (one for one in list_objects(str(damaged))[0] if one.model_id == "m5")
    with pytest.raises(BadFile, match="a wrong checksum"):
        checker.check_png(path.read_bytes(), "01.png")
    bad_files.check(one, EDGE, ["01"])


def test_what_only_the_graph_refuses_is_named_too(damaged, monkeypatch):
    monkeypatch.setattr(bad_files, "check_png", lambda *_: None)
    path, _ = _break(damaged, "a truncated PNG")
    (one,) = (one for one in list_objects(str(damaged))[0] if one.model_id == "m5")
    message = _one_line(lambda: bad_files.check(one, EDGE, ["01"]))
    assert message.startswith(f"{path}: expected a PNG, received one that cannot be decoded (")


def test_evaluation_goes_on_without_bad_models_on_request(damaged):
    _break_models(damaged, 0, 4)
    _break_views(damaged, 1, 1)
    _break_views(damaged, 2, 2)  # which is not read
    models = list_objects(str(damaged))[0]

    def evaluate(some):
        return named.samples(bad_files.explained(_evaluate(some), some, EDGE, 3, 2))

    def call(skip):
        return bad_files.on_sound_models(models, EDGE, evaluate, skip=skip, num_views=2)

    with pytest.raises(BadFile, match="m0"):
        call(skip=False)
    seen, sound, reasons = call(skip=True)
    assert [index for index, _ in seen] == [2, 3, 5, 6]
    assert sound == [models[index] for index in (2, 3, 5, 6)]
    assert [name in reason for name, reason in zip(("m0", "m1", "m4"), reasons, strict=True)]


def test_other_errors_in_training_are_not_blamed_on_files(models):
    def fail(dataset_of):
        return dataset_of().map(
            lambda images, voxels: (tf.debugging.check_numerics(images / 0, "!"), 0)
        )

    stream = TrainingStream(models, FRAME, EDGE, SAMPLING, skip=True, distribute=fail)
    with pytest.raises(tf.errors.InvalidArgumentError, match="!"):
        list(_batches(stream, 0, 9))
