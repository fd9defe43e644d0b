"""A small model, exported once for all tests of serving, and a server of it."""

import os
from types import SimpleNamespace

import pytest
import standin_models


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A fresh network and its first version: what `standin_models.r2n2` gives."""
    return standin_models.r2n2(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="session")
def served(request):
    """A server that answers for an exported model called r2n2.

    The stand-in, or what TF_SERVING_URL names; then TF_SERVING_MODELS is the folder that
    `python tests/standin/standin_models.py DIR` wrote and that server serves. Gives `url`,
    `version` (folder of the version that it serves) and `process` (the stand-in's, else None).
    """
    if url := os.environ.get("TF_SERVING_URL"):
        version = os.path.join(os.environ["TF_SERVING_MODELS"], "r2n2", "1")
        yield SimpleNamespace(url=url.rstrip("/"), version=version, process=None)
        return
    import standin_server

    exported = request.getfixturevalue("exported")
    with standin_server.command(f"--export_dir={exported.folder}") as server:
        yield SimpleNamespace(url=server.url, version=exported.version, process=server.process)
