"""The pipeline: what a batch holds, what is drawn when, and files that cannot be used.

Most tests run on files that say who they are: rendering v of model m has the colour (m, v, 0), and
of model m's voxels only number m is occupied.
"""

import itertools
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from r2n2_keras.data import binvox, decode, pipeline
from r2n2_keras.data.binvox import Voxels
from r2n2_keras.data.catalogue import list_models
from r2n2_keras.errors import InputError

COUNT, VIEWS = 7, 5
FRAME = pipeline.Frame(image_size=8, channels=3, grid_edge=4, background=255)
PY_FUNCTIONS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("named")
    for index in range(COUNT):
        name = f"03001627/m{index}"
        renderings = root / "ShapeNetRendering" / name / "rendering"
        renderings.mkdir(parents=True)
        for view in range(VIEWS):
            pixels = np.full((8, 8, 4), (index, view, 0, 255), np.uint8)
            Image.fromarray(pixels).save(renderings / f"{view:02d}.png")
        grid = np.zeros(64, bool)
        grid[index] = True
        folder = root / "ShapeNetVox32" / name
        folder.mkdir(parents=True)
        binvox.write(folder / "model.binvox", Voxels(grid.reshape(4, 4, 4)))
    return root


@pytest.fixture(scope="module")
def models(root):
    return list_models(str(root))


@pytest.fixture
def damaged(root, tmp_path):
    """The same files, for a test that breaks some of them."""
    return shutil.copytree(root, tmp_path / "damaged")


def _train(models, **changed):
    settings = {"batch_size": 4, "view_range": (1, VIEWS), "seed": 0, "steps": 6}
    return pipeline.training_batches(models, FRAME, **{**settings, **changed})


def _evaluate(models, **changed):
    return pipeline.evaluation_batches(
        models, FRAME, **{"batch_size": 3, "num_views": 2, **changed}
    )


def _who(batches):
    """Batches as lists of samples (model, views), told from the images; voxels must agree."""
    seen = []
    for images, voxels in batches:
        codes = np.rint(images.numpy()[:, :, 0, 0] * 255).astype(int)  # (B, T, C)
        occupied = voxels.numpy().reshape(len(codes), -1)
        assert (occupied.sum(axis=1) == 1).all()
        assert (codes[..., 0] == occupied.argmax(axis=1)[:, None]).all()
        seen.append([(int(code[0, 0]), tuple(code[:, 1].tolist())) for code in codes])
    return seen


def _samples(batches):
    return list(itertools.chain.from_iterable(_who(batches)))


# What a batch is.


def test_element_specs(models):
    images, voxels = _train(models).element_spec
    assert images == tf.TensorSpec((4, None, 8, 8, 3), tf.float32)
    assert voxels == tf.TensorSpec((4, 4, 4, 4), tf.float32)
    images, voxels = _evaluate(models).element_spec
    assert images == tf.TensorSpec((None, None, 8, 8, 3), tf.float32)
    assert voxels == tf.TensorSpec((None, 4, 4, 4), tf.float32)
    (voxels,) = [pipeline.voxel_batches(models, FRAME, 3).element_spec]
    assert voxels == tf.TensorSpec((None, 4, 4, 4), tf.float32)


@pytest.mark.parametrize(("channels", "image_size"), [(3, 127), (4, 137), (3, 32)])
def test_batches_hold_the_decoded_files(tree, channels, image_size):
    models = list_models(str(tree))[::7]
    frame = pipeline.Frame(image_size, channels, 32, 200)
    ((images, voxels),) = pipeline.evaluation_batches(models, frame, batch_size=8, num_views=2)
    assert images.shape == (3, 2, image_size, image_size, channels)
    for model, views, grid in zip(models, images, voxels, strict=True):
        np.testing.assert_array_equal(grid, binvox.read(model.voxels).data)
        for name, image in zip(model.views, views, strict=False):
            content = tf.io.read_file(model.view_path(name))
            expected = decode.rendering(content, image_size, channels, 200)
            np.testing.assert_array_equal(image, expected)
        assert 0 <= views.numpy().min() and views.numpy().max() <= 1


def test_the_frame_of_a_network():
    network = SimpleNamespace(image_size=127, channels=3, output_shape=(None, 32, 32, 32))
    assert pipeline.Frame.of(network, 128) == pipeline.Frame(127, 3, 32, 128)


def test_workers_are_not_given_shards_of_their_own(models):
    for batches in (_train(models), _evaluate(models)):
        policy = batches.options().experimental_distribute.auto_shard_policy
        assert policy == tf.data.experimental.AutoShardPolicy.OFF


def test_no_python_runs_in_the_graph(models):
    for batches in (_train(models), _evaluate(models), pipeline.voxel_batches(models, FRAME, 2)):
        variant = batches._variant_tensor
        graph = tf.compat.v1.GraphDef.FromString(
            tf.raw_ops.DatasetToGraphV2(input_dataset=variant).numpy()
        )
        kinds = {node.op for node in graph.node}
        kinds |= {node.op for inner in graph.library.function for node in inner.node_def}
        assert "ReadFile" in kinds and not kinds & PY_FUNCTIONS


# Training.


@pytest.fixture(scope="module")
def stream(models):
    """The first 30 batches of the stream that `_train` begins."""
    return list(_train(models, steps=30))


def test_the_seed_alone_decides(models, stream):
    expected = _who(stream)[:6]
    assert _who(_train(models)) == expected and len(expected) == 6
    assert _who(_train(models, seed=1)) != expected


@pytest.mark.parametrize("seed", [2**31, 2**32 - 1])
def test_large_seeds(models, seed):
    samples = _samples(_train(models, seed=seed, batch_size=COUNT, steps=2))
    for epoch in (samples[:COUNT], samples[COUNT:]):
        assert sorted(model for model, _ in epoch) == list(range(COUNT))


@pytest.mark.parametrize("first_step", [1, 7, 29])
def test_entering_at_a_step_is_skipping_to_it(models, stream, first_step):
    """Also where that is in the middle of an epoch."""
    last = min(first_step + 5, 30)
    entered = list(_train(models, first_step=first_step, steps=last))
    assert len(entered) == last - first_step
    for (images, voxels), (expected, expected_voxels) in zip(
        entered, stream[first_step:last], strict=True
    ):
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(voxels, expected_voxels)


def test_a_finished_run_has_no_batches(models):
    assert not list(_train(models, steps=3, first_step=3))
    assert not list(_train(models, steps=3, first_step=9))


@pytest.mark.parametrize("batch_size", [1, 4, 10])
def test_every_model_comes_once_per_epoch(models, stream, batch_size):
    epochs = 6
    steps = -(-epochs * COUNT // batch_size)
    samples = _samples(
        stream if batch_size == 4 else _train(models, batch_size=batch_size, steps=steps)
    )
    orders = [
        tuple(model for model, _ in samples[epoch * COUNT : (epoch + 1) * COUNT])
        for epoch in range(epochs)
    ]
    for order in orders:
        assert sorted(order) == list(range(COUNT))
    assert len(set(orders)) == epochs, "each epoch has an order of its own"


def test_views_are_distinct_and_as_many_throughout_a_batch(stream):
    numbers = []
    for batch in _who(stream):
        (number,) = {len(views) for _, views in batch}
        numbers.append(number)
        for _, views in batch:
            assert len(set(views)) == number and set(views) <= set(range(VIEWS))
    assert set(numbers) == {1, 2, 3, 4, 5}
    assert max(numbers.count(number) for number in range(1, 6)) < 15


def test_views_come_in_random_order(models):
    samples = _samples(_train(models, view_range=(VIEWS, VIEWS), steps=20))
    orders = [views for _, views in samples]
    assert len(set(orders)) > 40
    firsts = [views[0] for views in orders]
    assert all(5 <= firsts.count(view) <= 35 for view in range(VIEWS)), "80 samples, 16 expected"


@pytest.mark.parametrize("view_range", [(1, 1), (2, 3)])
def test_the_range_of_views_is_kept_and_used(models, view_range):
    batches = _who(_train(models, view_range=view_range, steps=12))
    numbers = {len(views) for batch in batches for _, views in batch}
    assert numbers == set(range(view_range[0], view_range[1] + 1))


@pytest.mark.parametrize("view_ids", [(3, 0, 4), (1, 1)])
def test_named_views_are_used_in_their_order(models, view_ids):
    number = len(view_ids)
    samples = _samples(_train(models, view_ids=view_ids, view_range=(number, number)))
    assert {views for _, views in samples} == {view_ids}
    assert _samples(_evaluate(models, view_ids=view_ids, num_views=number)) == [
        (model, view_ids) for model in range(COUNT)
    ]


def test_models_may_have_different_numbers_of_views(damaged):
    for view in (1, 3, 4):
        (damaged / f"ShapeNetRendering/03001627/m2/rendering/{view:02d}.png").unlink()
    models = list_models(str(damaged))
    samples = _samples(_train(models, view_range=(2, 2), steps=20))
    assert {tuple(sorted(views)) for model, views in samples if model == 2} == {(0, 2)}
    assert _samples(_evaluate(models))[2] == (2, (0, 2))


# Evaluation.


@pytest.mark.parametrize("num_views", [1, 5])
def test_evaluation_is_in_order_with_the_first_views(models, num_views):
    batches = _who(_evaluate(models, num_views=num_views))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    expected = [(model, tuple(range(num_views))) for model in range(COUNT)]
    assert list(itertools.chain.from_iterable(batches)) == expected


def test_voxels_alone(models):
    batches = list(pipeline.voxel_batches(models, FRAME, 5))
    assert [len(batch) for batch in batches] == [5, 2]
    grids = np.concatenate(batches).reshape(COUNT, -1)
    np.testing.assert_array_equal(grids, np.eye(COUNT, 64))


# What cannot be used.


def _one_line(function):
    with pytest.raises(InputError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_training_models_are_told():
    assert "at least one training model, received none" in _one_line(lambda: _train([]))


def test_too_few_views_are_told(models):
    message = _one_line(lambda: _train(models, view_range=(1, VIEWS + 1)))
    assert message == (
        "Expected at least 6 renderings of every model, received 03001627/m0 with 5. "
        "Lower --num_views."
    )
    assert "Lower --eval_views" in _one_line(lambda: _evaluate(models, num_views=6))


def test_missing_named_views_are_told(damaged):
    (damaged / "ShapeNetRendering/03001627/m4/rendering/03.png").unlink()
    models = list_models(str(damaged))
    for function in (_train, _evaluate):
        message = _one_line(lambda function=function: function(models, view_ids=(0, 3)))
        assert "renderings 00, 03 of every model, received 03001627/m4 without 03." in message
        assert "--view_ids" in message


def test_explained_changes_nothing_where_all_is_well(models, stream):
    assert list(pipeline.explained(stream, models, FRAME)) == stream


BINVOX = "ShapeNetVox32/03001627/m5/model.binvox"
PNG = "ShapeNetRendering/03001627/m5/rendering/01.png"


def _cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def _empty(path):
    binvox.write(path, Voxels(np.zeros((4, 4, 4), bool)))


def _larger(path):
    binvox.write(path, Voxels(np.ones((5, 5, 5), bool)))


DAMAGES = {
    "a truncated PNG": (PNG, _cut, "Expected a PNG, received PATH, which cannot be decoded"),
    "no PNG at all": (PNG, lambda path: path.write_text("no picture"), "Expected a PNG"),
    "an empty PNG": (PNG, lambda path: path.write_bytes(b""), "Expected a PNG"),
    "a PNG that went away": (PNG, lambda path: path.unlink(), "Expected a PNG"),
    "a truncated binvox": (BINVOX, _cut, "PATH: expected run lengths that fill 4x4x4 cells"),
    "no binvox at all": (BINVOX, lambda path: path.write_text("?"), "PATH: expected a binvox file"),
    "a binvox that went away": (
        BINVOX,
        lambda path: path.unlink(),
        "Expected a binvox file, received PATH, which cannot be read",
    ),
    "another grid": (BINVOX, _larger, "PATH: expected 4 cells along each axis.*received 5x5x5"),
    "an empty grid": (BINVOX, _empty, "PATH: expected an object, received a grid without"),
}


def _break(root, damage):
    """Damages a model of the tree; returns the damaged file and what should be said of it."""
    name, break_file, words = DAMAGES[damage]
    break_file(root / name)
    return str(root / name), words


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_file_to_blame_is_named(damaged, damage):
    models = list_models(str(damaged))
    path, words = _break(damaged, damage)
    batches = pipeline.explained(_evaluate(models), models, FRAME)
    message = _one_line(lambda: list(batches))
    assert re.match(words.replace("PATH", re.escape(path)), message) and path in message
    assert "{{" not in message and "[Op:" not in message


@pytest.mark.parametrize("damage", ["a truncated PNG", "an empty grid"])
def test_it_is_named_in_training_too(damaged, damage):
    models = list_models(str(damaged))
    path, _ = _break(damaged, damage)
    batches = pipeline.explained(_train(models, view_range=(5, 5)), models, FRAME)
    assert path in _one_line(lambda: list(batches))


def test_it_is_named_where_voxels_are_read_alone(damaged):
    models = list_models(str(damaged))
    path, _ = _break(damaged, "a truncated binvox")
    batches = pipeline.explained(pipeline.voxel_batches(models, FRAME, 2), models, FRAME)
    assert path in _one_line(lambda: list(batches))


def test_batches_before_a_broken_file_are_given(damaged):
    models = list_models(str(damaged))
    path, _ = _break(damaged, "a truncated binvox")
    batches = pipeline.explained(_evaluate(models), models, FRAME)
    assert _who([next(batches)])[0] == [(model, (0, 1)) for model in range(3)]
    assert path in _one_line(lambda: next(batches))


def test_other_faults_are_not_blamed_on_files(models):
    def fail(images, voxels):
        with tf.control_dependencies([tf.debugging.Assert(False, ["elsewhere"])]):
            return tf.identity(images), voxels

    batches = pipeline.explained(_evaluate(models).map(fail), models, FRAME)
    with pytest.raises(tf.errors.InvalidArgumentError, match="elsewhere"):
        next(batches)
