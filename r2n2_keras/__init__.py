"""3D-R2N2 in Keras 3: several pictures of an object in, a solid 32x32x32 voxel model out.

Names are imported when first used: `import r2n2_keras` alone loads neither Keras nor TensorFlow.
"""

import importlib

__version__ = "0.1.0"
__all__ = ["R2N2", "VoxelIoU", "binvox"]

_HOMES = {"R2N2": "r2n2_keras.model.r2n2", "VoxelIoU": "r2n2_keras.model.metrics"}


def __getattr__(name):
    if name == "binvox":
        return importlib.import_module("r2n2_keras.data.binvox")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
