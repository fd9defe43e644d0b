"""Voxel IoU against NumPy, on whatever backend is configured."""

import json

import keras
import numpy as np
import pytest
from grids import numpy_of, voxels_and_occupancy

from r2n2_keras.model.metrics import VoxelIoU, voxel_iou


def iou_of_sample(voxels, occupancy, threshold):
    true, predicted = voxels > 0.5, occupancy > np.float32(threshold)
    union = (true | predicted).sum()
    return (true & predicted).sum() / union if union else 1.0


def cells(*numbers):
    """`(1, 2, 2, 2)` with 1 in the cells of these numbers."""
    return np.isin(np.arange(8), numbers).astype("float32").reshape(1, 2, 2, 2)


@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.5])
def test_iou_is_that_of_numpy_however_it_comes_in_batches(threshold):
    voxels, occupancy = voxels_and_occupancy(7)
    expected = [iou_of_sample(*pair, threshold) for pair in zip(voxels, occupancy, strict=True)]
    iou = numpy_of(voxel_iou(voxels, occupancy, threshold))
    np.testing.assert_allclose(iou, expected, rtol=1e-6)
    for cuts in ([], [1, 5]):
        metric = VoxelIoU(threshold)
        for batch in zip(np.split(voxels, cuts), np.split(occupancy, cuts), strict=True):
            metric.update_state(*batch)
        assert float(metric.result()) == pytest.approx(np.mean(expected), rel=1e-6)


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64:UserWarning")  # Keras on JAX
def test_mean_over_samples_is_not_keras_pooled_iou():
    # A perfect small object, and a large one found by a quarter: 1 of 1 and 1 of 4 cells.
    voxels = np.concatenate([cells(0), cells(0, 1, 2, 3)])
    occupancy = np.concatenate([cells(0), cells(0)])
    per_sample = VoxelIoU(threshold=0.4)
    pooled = keras.metrics.BinaryIoU(target_class_ids=[1], threshold=0.4)
    for metric in (per_sample, pooled):
        metric.update_state(voxels, occupancy)
    assert float(per_sample.result()) == pytest.approx(0.625)  # (1/1 + 1/4) / 2
    assert float(pooled.result()) == pytest.approx(0.4)  # (1 + 1) / (1 + 4)


def test_two_empty_grids_agree():
    empty, full = cells(), cells(*range(8))
    iou = voxel_iou(np.concatenate([empty, empty, full]), np.concatenate([empty, full, empty]), 0.4)
    assert numpy_of(iou).tolist() == [1, 0, 0]


def test_sample_weight_weighs_samples():
    voxels, occupancy = voxels_and_occupancy(3)
    weight = np.array([0.0, 1.0, 3.0], "float32")
    metric = VoxelIoU()
    metric.update_state(voxels, occupancy, sample_weight=weight)
    ious = [iou_of_sample(*pair, 0.4) for pair in zip(voxels, occupancy, strict=True)]
    assert float(metric.result()) == pytest.approx(np.average(ious, weights=weight), rel=1e-6)

    metric.reset_state()
    metric.update_state(voxels, occupancy, sample_weight=np.zeros(3))
    assert float(metric.result()) == 0  # and not 0 / 0


@pytest.mark.parametrize("threshold", [0.4, 0.5, 0.1])
def test_a_voxel_at_the_threshold_is_empty(threshold):
    at = cells(0) * np.float32(threshold)
    above = np.nextafter(at, np.float32(1), dtype="float32")
    assert float(voxel_iou(cells(0), at, threshold)[0]) == 0
    assert float(voxel_iou(cells(0), above * cells(0), threshold)[0]) == 1


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32"])
def test_voxels_may_be_of_any_type(dtype):
    voxels, occupancy = voxels_and_occupancy()
    iou = numpy_of(voxel_iou(voxels.astype(dtype), occupancy, 0.4))
    assert iou.dtype == np.float32
    np.testing.assert_array_equal(iou, numpy_of(voxel_iou(voxels, occupancy, 0.4)))


def test_metric_comes_back_from_its_config():
    metric = VoxelIoU(threshold=0.3, name="iou_at_0.3")
    config = json.loads(json.dumps(keras.metrics.serialize(metric)))
    again = keras.metrics.deserialize(config)
    assert isinstance(again, VoxelIoU)
    assert (again.threshold, again.name, again.dtype) == (0.3, "iou_at_0.3", metric.dtype)
    assert VoxelIoU().get_config()["threshold"] == 0.4
