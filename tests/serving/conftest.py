"""A small model, exported once for all tests of serving."""

from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A fresh network that does not answer one thing, and its first exported version.

    Attributes: `model`, `frame`, `threshold` (half of the voxels lie above it), `folder` (of the
    versions), `version` (the first).
    """
    from r2n2_keras.data.decode import Frame
    from r2n2_keras.model.r2n2 import R2N2
    from r2n2_keras.serving import version_folder

    model = R2N2.from_preset("tiny")
    frame = Frame.of(model, background=240)
    images = np.random.default_rng(0).random((4, 3, *frame.shape), "float32")
    threshold = float(np.median(model.predict(images, verbose=0)))
    folder = tmp_path_factory.mktemp("exports")
    version = version_folder.export_version(
        model, str(folder), frame=frame, threshold=threshold, card="# A card\n"
    )
    return SimpleNamespace(
        model=model, frame=frame, threshold=threshold, folder=str(folder), version=version
    )
