"""A small model, exported once for all tests of serving."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import standin


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


@pytest.fixture(scope="session")
def served(request):
    """A server that answers for an exported model called r2n2.

    The stand-in, or what TF_SERVING_URL names; then TF_SERVING_MODELS is the folder that
    `python tests/serving/rest/rest_models.py DIR` wrote and that server serves.

    Attributes: `url`, `version` (folder of the version that it serves), `process` (the stand-in's,
    else None).
    """
    if url := os.environ.get("TF_SERVING_URL"):
        version = os.path.join(os.environ["TF_SERVING_MODELS"], "r2n2", "1")
        yield SimpleNamespace(url=url.rstrip("/"), version=version, process=None)
        return
    exported = request.getfixturevalue("exported")
    with standin.running(f"--export_dir={exported.folder}") as server:
        yield SimpleNamespace(url=server.url, version=exported.version, process=server.process)
