"""Scores of a split against a naive evaluation, one picture and one model at a time."""

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from r2n2_keras.data import binvox, objects, trees
from r2n2_keras.evaluation import baselines, examples, scores
from r2n2_keras.evaluation.scores import make_eval_step
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.shapes import dataset

THRESHOLDS = (0.3, 0.5)
BACKGROUND = 240
VIEWS = 3


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores") / "data"
    dataset.synthesize(folder, ("chair", "table"), 4, num_views=VIEWS, processes=1)
    return trees.list_objects(str(folder))[0]


@pytest.fixture(scope="module")
def model():
    """As large in and out as the files, so that no picture is resized; narrow inside."""
    network = R2N2.from_preset(
        "tiny", image_size=137, encoder_filters=(2, 2, 4, 4, 4, 4), encoder_kernel_sizes=(3,) * 6,
        features=8, hidden_channels=4, decoder_filters=(4, 4, 2, 1),
    )  # fmt: skip
    # Louder than fresh weights, with which all cells come out alike whatever the pictures show.
    rng = np.random.default_rng(0)
    for weight in network.weights:
        size = 2 * np.prod(weight.shape[:-1]) ** -0.5 if len(weight.shape) > 1 else 0.2
        weight.assign(rng.normal(0, size, weight.shape))
    return network


def picture(path):
    rgba = np.asarray(Image.open(path).convert("RGBA"), "float32") / 255
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return colour * alpha + BACKGROUND / 255 * (1 - alpha)


def voxels_of(model):
    return binvox.read(model.files.voxels_path).data


def iou_of(voxels, occupancy, threshold):
    predicted = occupancy > np.float32(threshold)
    return (voxels & predicted).sum() / (voxels | predicted).sum()


def cross_entropy(voxels, occupancy):
    occupancy = np.clip(occupancy.astype("float64"), 1e-7, 1 - 1e-7)
    return -np.mean(np.where(voxels, np.log(occupancy), np.log(1 - occupancy)))


def soft_dice(voxels, occupancy):
    return 1 - (2 * (voxels * occupancy).sum() + 1) / (voxels.sum() + (occupancy**2).sum() + 1)


# Average precision


@pytest.mark.parametrize("levels", [None, 10, 2, 1])
@pytest.mark.parametrize("occupied", [0.02, 0.5, 1.0])
def test_average_precision_is_that_of_scikit_learn(levels, occupied):
    rng = np.random.default_rng(0)
    voxels = rng.uniform(size=(6, 6, 6)) < occupied
    voxels[0, 0, 0] = True
    occupancy = rng.uniform(size=voxels.shape).astype("float32")
    if levels:  # few different probabilities: ties
        occupancy = np.floor(occupancy * levels).astype("float32") / levels
    expected = average_precision_score(voxels.ravel(), occupancy.ravel())
    for cells in (voxels, voxels.astype("float32")):
        assert scores.average_precision(cells, occupancy) == pytest.approx(expected, rel=1e-9)


# score


def naive_scores(model, models, view_ids, loss=cross_entropy):
    """Of each model: IoU at the thresholds, average precision and loss, with these views."""
    rows = []
    for one in models:
        images = [picture(one.files.view_path(f"{view:02d}")) for view in view_ids]
        occupancy = model.predict(np.array([images]), verbose=0)[0]
        voxels = voxels_of(one)
        ious = [iou_of(voxels, occupancy, threshold) for threshold in THRESHOLDS]
        precision = average_precision_score(voxels.ravel(), occupancy.ravel())
        rows.append([*ious, precision, loss(voxels, occupancy)])
    return rows


def assert_same_scores(result, expected):
    assert tuple(result.iou) == THRESHOLDS
    *shares, losses = np.transpose(expected)
    # One cell on the other side of the threshold is rounding, not an error.
    received = [*result.iou.values(), result.average_precision]
    np.testing.assert_allclose(received, shares, atol=1e-3)
    np.testing.assert_allclose(result.loss, losses, rtol=1e-4)


def test_scores_are_those_of_a_naive_evaluation(model, models):
    settings = {"eval_views": (1, VIEWS), "thresholds": THRESHOLDS, "batch_size": 3}
    results = scores.score(model, models, **settings)
    assert [result.views for result in results] == [1, VIEWS]
    for result in results:
        # A sample's n views are its first n renderings.
        assert_same_scores(result, naive_scores(model, models, range(result.views)))
    # The comparison would mean little if all models or all numbers of views scored alike.
    assert np.ptp(results[0].loss) > 0.01
    assert np.abs(results[0].loss - results[1].loss).max() > 0.01
    assert np.ptp(results[0].iou[THRESHOLDS[0]]) > 0.01


def test_view_ids_choose_the_renderings_and_their_order(model, models):
    (result,) = scores.score(
        model, models[:2], eval_views=(2,), thresholds=THRESHOLDS, batch_size=2, view_ids=(2, 0),
        loss="dice",
    )  # fmt: skip
    assert_same_scores(result, naive_scores(model, models[:2], (2, 0), soft_dice))


def test_examples_are_the_first_models_of_their_categories(model, models):
    rows = examples.examples(model, models, num_views=2, threshold=0.5)
    for (images, predicted, voxels, caption), one in zip(rows, (models[0], models[4]), strict=True):
        pictures = [picture(one.files.view_path(view)) for view in ("00", "01")]
        np.testing.assert_allclose(images, pictures, atol=1e-6)
        np.testing.assert_array_equal(voxels, voxels_of(one))
        assert predicted.shape == voxels.shape and predicted.dtype == bool
        assert caption == f"{one.category}, IoU {iou_of(voxels, predicted, 0.5):.2f}"


@pytest.mark.parametrize("num_views", [3, None])
def test_one_graph_scores_any_batch(num_views):
    network = R2N2.from_preset(
        "tiny", image_size=16, encoder_filters=(8, 8), encoder_kernel_sizes=(3, 3), features=16,
        hidden_channels=8, decoder_filters=(8, 1), grid_upsamplings=1,
    )  # fmt: skip
    eval_step = make_eval_step(network, 0.4, num_views)
    rng = np.random.default_rng(0)
    images = rng.random((4, 3, 16, 16, 3), dtype="float32")
    voxels = rng.random((4, 8, 8, 8)) > 0.7
    expected = network(images).numpy()
    for size in (4, 1):
        scored = eval_step(images[:size], voxels[:size].astype("float32"))
        losses, ious, occupancy = (values.numpy() for values in scored)
        np.testing.assert_allclose(occupancy, expected[:size], atol=1e-6)
        for n, pair in enumerate(zip(voxels[:size], expected, strict=False)):
            assert losses[n] == pytest.approx(cross_entropy(*pair), rel=1e-5)
            assert ious[n] == pytest.approx(iou_of(*pair, 0.4), rel=1e-6)
    assert eval_step.experimental_get_tracing_count() == 1


# The mean shape


def naive_mean_shape_iou(train, val, evaluated):
    mean = np.mean([voxels_of(one) for one in train], axis=0, dtype="float64").astype("float32")

    def mean_iou(models, threshold):
        return np.mean([iou_of(voxels_of(one), mean, threshold) for one in models])

    best = max(np.arange(1, 20) / 20, key=lambda threshold: mean_iou(val, threshold))
    return mean_iou(evaluated, best)


def test_mean_shape_iou_is_that_of_a_naive_evaluation(tmp_path):
    def models_of(*cells_of_models):
        """Models of 2x2x2 cells out of the numbers of their occupied cells."""
        made = []
        for cells in cells_of_models:
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.binvox"
            binvox.write(path, binvox.Voxels(np.isin(np.arange(8), cells).reshape(2, 2, 2)))
            made.append(objects.Object("03001627", path.stem, (), trees.TreeFiles("", str(path))))
        return made

    # The mean grid: cell 0 with 1, cell 1 with 1/2, cell 2 with 1/4.
    train, test = models_of([0], [0, 1], [0, 1], [0, 2]), models_of([0, 1, 2], [0, 1, 2], [0])
    results = []
    for val in (models_of([0]), models_of([0, 1, 2]), []):  # without any, the training models count
        results.append(baselines.mean_shape_iou(train, val, test, batch_size=2, grid_edge=2))
        assert results[-1] == pytest.approx(naive_mean_shape_iou(train, val or train, test))
    assert len(set(results)) == 3
