"""Predictions as files.

To add a format, write a function of a path and a `Prediction` and name it in `FORMATS`. Every
command reads the names before it loads anything heavy: what a format needs is imported when it is
written.
"""

import os
from typing import NamedTuple

from r2n2_keras.errors import InputError
from r2n2_keras.files import replacing


class Prediction(NamedTuple):
    """What a network makes of the views of one object."""

    images: object  # float (T, H, W, C) in [0, 1], the views
    occupancy: object  # float (N, N, N), [x, y, z]
    voxels: object  # bool (N, N, N)
    truth: object = None  # bool (N, N, N); None where the true voxels are not known


def check_formats(formats) -> None:
    """Raises an InputError where a format is not one of `FORMATS`."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise InputError(
            f"Expected --formats among {','.join(FORMATS)}, received "
            f"{','.join(unknown) or 'none'}. Change it."
        )


def write_prediction(folder, prediction, formats) -> list[str]:
    """Writes whole files `prediction.<format>` to a folder, which it makes; gives their paths."""
    os.makedirs(folder, exist_ok=True)
    paths = [os.path.join(folder, f"prediction.{name}") for name in formats]
    for name, path in zip(formats, paths, strict=True):
        FORMATS[name](path, prediction)
    return paths


def _write_npz(path, prediction):
    import numpy as np

    with replacing(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, occupancy=prediction.occupancy, voxels=prediction.voxels)


def _write_binvox(path, prediction):
    from r2n2_keras.data import binvox

    # The grid is a unit cube around the origin, as the data set's objects are.
    binvox.write(path, binvox.Voxels(prediction.voxels, translate=(-0.5, -0.5, -0.5)))


def _write_png(path, prediction):
    from r2n2_keras.outputs import pictures

    images, _, voxels, truth = prediction
    pictures.save(pictures.prediction_picture(images, voxels, truth=truth), path)


FORMATS = {"npz": _write_npz, "binvox": _write_binvox, "png": _write_png}
