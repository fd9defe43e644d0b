"""The evaluation step against NumPy."""

import numpy as np
import pytest

from r2n2_keras.evaluation.scores import make_eval_step
from r2n2_keras.model.r2n2 import R2N2


@pytest.mark.parametrize("num_views", [3, None])
def test_one_graph_scores_any_batch(num_views):
    model = R2N2.from_preset(
        "tiny", image_size=16, encoder_filters=(8, 8), encoder_kernel_sizes=(3, 3), features=16,
        hidden_channels=8, decoder_filters=(8, 1), grid_upsamplings=1,
    )  # fmt: skip
    eval_step = make_eval_step(model, 0.4, num_views)
    rng = np.random.default_rng(0)
    images = rng.random((4, 3, 16, 16, 3), dtype="float32")
    voxels = (rng.random((4, 8, 8, 8)) > 0.7).astype("float32")
    expected = model(images).numpy()
    cells = -(voxels * np.log(expected) + (1 - voxels) * np.log(1 - expected))
    for size in (4, 1):
        losses, ious, occupancy = eval_step(images[:size], voxels[:size])
        np.testing.assert_allclose(occupancy, expected[:size], atol=1e-6)
        np.testing.assert_allclose(losses, cells[:size].mean((1, 2, 3)), rtol=1e-5)
        solid, occupied = voxels[:size] > 0.5, expected[:size] > 0.4
        both, either = (solid & occupied).sum((1, 2, 3)), (solid | occupied).sum((1, 2, 3))
        np.testing.assert_allclose(ious, both / either, rtol=1e-6)
    assert eval_step.experimental_get_tracing_count() == 1
