"""Predictions as files: npz, binvox, png."""

import os

import numpy as np

from r2n2_keras.data import binvox
from r2n2_keras.errors import InputError
from r2n2_keras.files import replacing
from r2n2_keras.outputs import pictures

FORMATS = ("npz", "binvox", "png")


def check_formats(formats) -> None:
    """Raises an InputError where a format is not one of `FORMATS`."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise InputError(
            f"Expected --formats among {','.join(FORMATS)}, received "
            f"{','.join(unknown) or 'none'}. Change it."
        )


def write_prediction(folder, images, occupancy, threshold, formats, truth=None) -> list[str]:
    """Writes one prediction; each file appears under its name only when it is whole.

    Args:
        folder: where to; made if absent.
        images: float `(T, H, W, C)`, the views.
        occupancy: float `(N, N, N)`, [x, y, z].
        threshold: a voxel is occupied where its occupancy is above this.
        formats: some of `FORMATS`.
        truth: bool `(N, N, N)` where the true voxels are known.

    Returns:
        The paths of the files.
    """
    os.makedirs(folder, exist_ok=True)
    voxels = occupancy > threshold
    paths = [os.path.join(folder, f"prediction.{name}") for name in formats]
    for name, path in zip(formats, paths, strict=True):
        if name == "npz":
            _write_npz(path, occupancy=occupancy, voxels=voxels)
        elif name == "binvox":
            # The grid is a unit cube around the origin, as the data set's objects are.
            binvox.write(path, binvox.Voxels(voxels, translate=(-0.5, -0.5, -0.5)))
        else:
            figure = pictures.prediction_picture(images, voxels, truth=truth)
            pictures.save(figure, path)
    return paths


def _write_npz(path, **arrays):
    with replacing(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)
