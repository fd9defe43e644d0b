"""What `import r2n2_keras` costs and what it offers."""

import importlib.metadata
import subprocess
import sys

import pytest

import r2n2_keras


@pytest.mark.parametrize(
    ("statement", "loaded"), [("r2n2_keras", []), ("r2n2_keras.binvox.read", ["numpy"])]
)
def test_import_loads_little(statement, loaded):
    heavy = ("keras", "tensorflow", "jax", "numpy", "trimesh", "matplotlib", "absl")
    code = f"import sys, r2n2_keras; {statement}; print(*(n for n in {heavy} if n in sys.modules))"
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.split() == loaded


def test_public_names_resolve_and_others_do_not():
    from r2n2_keras.data import binvox
    from r2n2_keras.model.metrics import VoxelIoU
    from r2n2_keras.model.r2n2 import R2N2

    assert r2n2_keras.R2N2 is R2N2
    assert r2n2_keras.VoxelIoU is VoxelIoU
    assert r2n2_keras.binvox is binvox
    assert all(getattr(r2n2_keras, name) for name in r2n2_keras.__all__)
    with pytest.raises(AttributeError, match="'r2n2_keras' has no attribute 'r2n3'"):
        _ = r2n2_keras.r2n3
    assert not hasattr(r2n2_keras, "tf")


def test_version_is_the_installed_one():
    assert r2n2_keras.__version__ == importlib.metadata.version("r2n2-keras")
