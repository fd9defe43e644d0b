"""What `import r2n2_keras` costs and what it offers."""

import importlib.metadata
import subprocess
import sys

import pytest

import r2n2_keras


def run(code):
    """Standard output of a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()


def test_import_loads_neither_keras_nor_tensorflow():
    heavy = ("keras", "tensorflow", "jax", "numpy", "trimesh", "matplotlib", "absl")
    code = f"import sys, r2n2_keras; print(*(name for name in {heavy} if name in sys.modules))"
    assert run(code) == []


def test_binvox_needs_numpy_only():
    code = (
        "import sys, r2n2_keras; r2n2_keras.binvox.read; "
        "print(*(name for name in ('keras', 'tensorflow', 'numpy') if name in sys.modules))"
    )
    assert run(code) == ["numpy"]


def test_public_names_resolve():
    from r2n2_keras.data import binvox
    from r2n2_keras.model.metrics import VoxelIoU
    from r2n2_keras.model.r2n2 import R2N2

    assert r2n2_keras.R2N2 is R2N2
    assert r2n2_keras.VoxelIoU is VoxelIoU
    assert r2n2_keras.binvox is binvox
    assert all(getattr(r2n2_keras, name) for name in r2n2_keras.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'r2n2_keras' has no attribute 'r2n3'"):
        _ = r2n2_keras.r2n3
    assert not hasattr(r2n2_keras, "tf")


def test_version_is_the_installed_one():
    assert r2n2_keras.__version__ == importlib.metadata.version("r2n2-keras")
