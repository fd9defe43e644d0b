"""The pipeline: what a batch holds, what is drawn when; most files say who they are (`named`)."""

import dataclasses
import itertools

import named
import numpy as np
import pytest
import tensorflow as tf
from named import COUNT, FRAME, VIEWS

from r2n2_keras.data import binvox, pipeline
from r2n2_keras.data import images as images_lib
from r2n2_keras.data.augmentation import Augmentation
from r2n2_keras.data.pipeline import Sampling
from r2n2_keras.data.trees import list_objects
from r2n2_keras.errors import InputError
from r2n2_keras.model.image_spec import ImageSpec

SAMPLING = Sampling(batch_size=4, view_range=(1, VIEWS))


def _train(objects, *, steps=6, first_step=0, spec=FRAME, grid_edge=4, places=None, **changed):
    sampling = dataclasses.replace(SAMPLING, **changed)
    places = {"first_step": first_step, "steps": steps, **(places or {})}
    return pipeline.training_batches(objects, spec, sampling, grid_edge=grid_edge, **places)


def _evaluate(objects, **changed):
    settings = {"batch_size": 3, "num_views": 2, "grid_edge": 4, **changed}
    return pipeline.evaluation_batches(objects, FRAME, **settings)


_who, _samples = named.who, named.samples


# What a batch is.


def test_element_specs(models):
    images, voxels = _train(models).element_spec
    assert images == tf.TensorSpec((4, None, 8, 8, 3), tf.float32)
    assert voxels == tf.TensorSpec((4, 4, 4, 4), tf.float32)
    images, _ = _train(models, view_range=(3, 3)).element_spec
    assert images == tf.TensorSpec((4, 3, 8, 8, 3), tf.float32)
    images, voxels = _evaluate(models).element_spec
    assert images == tf.TensorSpec((None, 2, 8, 8, 3), tf.float32)
    assert voxels == tf.TensorSpec((None, 4, 4, 4), tf.float32)
    assert pipeline.voxel_batches(models, 3, 4).element_spec == voxels


@pytest.mark.parametrize(("channels", "image_size"), [(3, 127), (4, 137), (3, 32)])
def test_batches_hold_the_decoded_files(tree, channels, image_size):
    models = list_objects(str(tree))[0][::7]
    spec = ImageSpec(image_size, channels, 200)
    ((batch, voxels),) = pipeline.evaluation_batches(models, spec, batch_size=8, num_views=2)
    assert batch.shape == (3, 2, image_size, image_size, channels)
    for one, views, grid in zip(models, batch, voxels, strict=True):
        np.testing.assert_array_equal(grid, binvox.read(one.files.voxels_path).data)
        for name, image in zip(one.views, views, strict=False):
            content = tf.io.read_file(one.files.view_path(name))
            expected = images_lib.to_view(images_lib.decode_png(content), spec)
            np.testing.assert_allclose(image, expected, atol=1e-6)
        assert 0 <= views.numpy().min() and views.numpy().max() <= 1


def test_no_python_runs_in_the_graph_and_workers_share_no_files(models):
    for batches in (_train(models), _evaluate(models), pipeline.voxel_batches(models, 2, 4)):
        policy = batches.options().experimental_distribute.auto_shard_policy
        assert policy == tf.data.experimental.AutoShardPolicy.OFF
        content = tf.raw_ops.DatasetToGraphV2(input_dataset=batches._variant_tensor).numpy()
        graph = tf.compat.v1.GraphDef.FromString(content)
        kinds = {node.op for node in graph.node}
        kinds |= {node.op for inner in graph.library.function for node in inner.node_def}
        assert "ReadFile" in kinds and not any("PyFunc" in kind for kind in kinds)


# Training.


@pytest.fixture(scope="module")
def stream(models):
    """The first 30 batches of the stream that `_train` begins."""
    return list(_train(models, steps=30))


def test_the_seed_alone_decides(models, stream):
    expected = _who(stream)[:6]
    assert _who(_train(models)) == expected and len(expected) == 6
    assert _who(_train(models, seed=1)) != expected


@pytest.mark.parametrize("first_step", [1, 7, 29])
def test_entering_at_a_step_is_skipping_to_it(models, stream, first_step):
    """Also where that is in the middle of an epoch."""
    last = min(first_step + 5, 30)
    entered = list(_train(models, first_step=first_step, steps=last))
    _assert_same(entered, stream[first_step:last])


def _assert_same(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        for tensor, same in zip(batch, other, strict=True):
            np.testing.assert_array_equal(tensor, same)


def test_a_finished_run_has_no_batches(models):
    assert not list(_train(models, steps=3, first_step=3))
    assert not list(_train(models, steps=3, first_step=9))


@pytest.mark.parametrize(
    ("batch_size", "seed"), [(1, 0), (4, 0), (10, 0), (7, 2**31), (7, 2**32 - 1)]
)
def test_every_model_comes_once_per_epoch(models, batch_size, seed):
    epochs = 6
    steps = -(-epochs * COUNT // batch_size)
    samples = _samples(_train(models, batch_size=batch_size, seed=seed, steps=steps))
    orders = [
        tuple(model for model, _ in samples[epoch * COUNT : (epoch + 1) * COUNT])
        for epoch in range(epochs)
    ]
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert len(set(orders)) == epochs, "each epoch has an order of its own"


def test_views_are_distinct_and_as_many_throughout_a_batch(stream):
    numbers = []
    for batch in _who(stream):
        (number,) = {len(views) for _, views in batch}
        numbers.append(number)
        assert all(len(set(views) & set(range(VIEWS))) == number for _, views in batch)
    counts = [numbers.count(number) for number in range(1, VIEWS + 1)]
    assert sum(counts) == len(stream) and 0 < min(counts) <= max(counts) < 15


def test_views_come_in_random_order(models):
    samples = _samples(_train(models, view_range=(VIEWS, VIEWS), steps=20))
    orders = [views for _, views in samples]
    assert len(set(orders)) > 40
    firsts = [views[0] for views in orders]
    assert all(5 <= firsts.count(view) <= 35 for view in range(VIEWS)), "80 samples, 16 expected"


@pytest.mark.parametrize("view_ids", [(3, 0, 4), (1, 1)])
def test_named_views_are_used_in_their_order(models, view_ids):
    number = len(view_ids)
    training = _train(models, view_ids=view_ids, view_range=(number, number))
    evaluation = _evaluate(models, view_ids=view_ids, num_views=number)
    assert {views for _, views in _samples(training)} == {view_ids}
    assert _samples(evaluation) == [(model, view_ids) for model in range(COUNT)]


def test_models_may_have_different_numbers_of_views(suspects, tmp_path):
    for view in (1, 3, 4):
        (tmp_path / f"ShapeNetRendering/03001627/m2/rendering/{view:02d}.png").unlink()
    models = list_objects(str(tmp_path))[0]
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
    batches = list(pipeline.voxel_batches(models, 5, 4))
    assert [len(batch) for batch in batches] == [5, 2]
    grids = np.concatenate(batches).reshape(COUNT, -1)
    np.testing.assert_array_equal(grids, np.eye(COUNT, 64))


# Workers, and how views are drawn.


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("first_step", [0, 5])
def test_workers_share_out_every_batch(models, stream, workers, first_step):
    places = [{"worker": worker, "workers": workers} for worker in range(workers)]
    shares = [_train(models, steps=9, first_step=first_step, places=place) for place in places]
    _assert_same(map(_joined, zip(*shares, strict=True)), stream[first_step:9])


def _joined(parts):
    """A batch of its parts."""
    return [np.concatenate(tensors) for tensors in zip(*parts, strict=True)]


def test_a_share_comes_in_parts_for_a_workers_devices(models, stream):
    parts = _train(models, steps=5, places={"worker": 1, "workers": 2, "parts": 2})
    batches = itertools.product(stream[:5], (2, 3))
    _assert_same(parts, [[tensor[place, None] for tensor in batch] for batch, place in batches])


def test_the_stream_has_no_end_of_its_own(models):
    dataset = _train(models, steps=None, first_step=10**9)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    (batch,) = dataset.take(1)
    assert named.who([batch]) == named.who(_train(models, first_step=10**9, steps=10**9 + 1))


def test_the_models_of_a_batch_are_known_beforehand(models, stream):
    for step, batch in enumerate(_who(stream)):
        samples = pipeline.batch_samples(models, SAMPLING, step)
        assert [(index, tuple(map(int, views))) for index, views in samples] == batch


def test_views_with_replacement_repeat(models):
    drawn = {"view_sampling": "with_replacement", "steps": 40}
    views = [one for _, one in _samples(_train(models, view_range=(VIEWS, VIEWS), **drawn))]
    assert {view for one in views for view in one} == set(range(VIEWS))
    distinct = np.array([len(set(one)) for one in views])
    # 5 of 5 with replacement: all differ in 5! / 5**5 = 4 % of the samples, 3.36 do on average.
    assert (distinct < VIEWS).mean() > 0.85 and abs(distinct.mean() - 3.36) < 0.25
    more = _samples(_train(models, view_range=(9, 9), **drawn))
    assert {len(one) for _, one in more} == {9}, "more than there are can be asked for"


def test_the_first_views_in_their_order_as_many_as_the_range_allows(models):
    seen = _samples(_train(models, view_sampling="first", view_range=(2, 4), steps=20))
    assert {views for _, views in seen} == {tuple(range(n)) for n in (2, 3, 4)}


def test_only_the_views_that_are_used_are_decoded(suspects, tmp_path):
    for model in range(COUNT):
        (tmp_path / f"ShapeNetRendering/03001627/m{model}/rendering/04.png").write_bytes(b"broken")
    seen = _samples(_train(suspects, view_ids=(3, 0), view_range=(2, 2)))
    assert {views for _, views in seen} == {(3, 0)}


@pytest.mark.parametrize("view_range", [(1, 1), (5, 5), (9, 9), (1, 3)])
def test_a_loop_in_the_graph_and_views_one_by_one_are_the_same(models, view_range, monkeypatch):
    changed = {"view_sampling": "with_replacement", "view_range": view_range, "steps": 3}
    batches = list(_train(models, **changed))
    monkeypatch.setattr(pipeline, "_MAX_UNROLLED", 0)
    _assert_same(batches, _train(models, **changed))


# Augmentation, on renderings; `augmentation_test` has what each part does.

RENDERINGS = {"spec": ImageSpec(127, 3, 240), "grid_edge": 32}


def test_every_picture_of_a_batch_looks_different(tree):
    models = list_objects(str(tree))[0]
    # The same view three times: without augmentation the same picture.
    changed = {"view_ids": (2, 2, 2), "view_range": (3, 3), "steps": 2, **RENDERINGS}
    everything = Augmentation(True, True, (0, 255), 0.3)
    for images, _ in _train(models, augmentation=everything, **changed):
        corners = images.numpy()[:, :, 0, 0].reshape(-1, 3)
        assert len(np.unique(corners, axis=0)) == len(corners)
    for images, _ in _train(models, **changed):
        np.testing.assert_array_equal(images[:, 0], images[:, 1])
        np.testing.assert_allclose(images[:, :, 0, 0], 240 / 255, rtol=1e-6)


def test_augmented_streams_can_be_entered_and_shared_out_too(tree):
    models = list_objects(str(tree))[0]
    changed = {"augmentation": Augmentation(True, True, (225, 255), 0.2), "steps": 4, **RENDERINGS}
    whole = list(_train(models, **changed))
    places = [{"worker": worker, "workers": 2} for worker in (0, 1)]
    shares = [_train(models, first_step=2, places=place, **changed) for place in places]
    _assert_same(map(_joined, zip(*shares, strict=True)), whole[2:])


# What cannot be used.

FEW = "at least 6 renderings of every object, received 03001627/m0 with 5."
MISSING = "renderings 00, 03 of every object, received 03001627/m4 without 03. Change --view_ids."


@pytest.mark.parametrize(
    ("batches", "settings", "words"),
    [
        (_train, {"view_range": (1, 6)}, f"{FEW} Lower --num_views"),
        (_evaluate, {"num_views": 6}, f"{FEW} Lower --eval_views"),
        (_train, {"view_ids": (0, 3)}, MISSING),
        (_evaluate, {"view_ids": (0, 3)}, MISSING),
        (_train, {"places": {"workers": 3}}, "multiple of the 3 replicas, received 4."),
    ],
)
def test_what_cannot_be_used_is_told(suspects, tmp_path, batches, settings, words):
    (tmp_path / "ShapeNetRendering/03001627/m4/rendering/03.png").unlink()
    with pytest.raises(InputError, match=r"^Expected [^\n]+$") as caught:
        batches(list_objects(str(tmp_path))[0], **settings)
    assert words in str(caught.value)


def test_no_training_models_are_told():
    with pytest.raises(InputError, match="at least one training model, received none"):
        _train([])
