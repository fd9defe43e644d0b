"""A small tree whose files say who they are, for tests of the pipeline and of what reads it.

Rendering v of model m has the colour (m, v, 0), and of model m's voxels only number m is occupied.
"""

import itertools

import numpy as np
from PIL import Image

from r2n2_keras.data import binvox
from r2n2_keras.data.binvox import Voxels
from r2n2_keras.data.trees import list_objects
from r2n2_keras.model.image_spec import ImageSpec

COUNT, VIEWS = 7, 5
FRAME = ImageSpec(image_size=8, channels=3, background=255)


def write_models(root):
    """Writes the models 03001627/m0 to m6 under a folder, and gives them."""
    for index in range(COUNT):
        renderings = root / f"ShapeNetRendering/03001627/m{index}/rendering"
        renderings.mkdir(parents=True)
        for view in range(VIEWS):
            pixels = np.full((8, 8, 4), (index, view, 0, 255), np.uint8)
            Image.fromarray(pixels).save(renderings / f"{view:02d}.png")
        folder = root / f"ShapeNetVox32/03001627/m{index}"
        folder.mkdir(parents=True)
        grid = (np.arange(64) == index).reshape(4, 4, 4)
        binvox.write(folder / "model.binvox", Voxels(grid))
    return list_objects(str(root))[0]


def who(batches):
    """Batches as lists of samples (model, views), told from the images; voxels must agree."""
    seen = []
    for images, voxels in batches:
        codes = np.rint(images.numpy()[:, :, 0, 0] * 255).astype(int)  # (B, T, C)
        occupied = voxels.numpy().reshape(len(codes), -1)
        assert (occupied.sum(axis=1) == 1).all()
        assert (codes[..., 0] == occupied.argmax(axis=1)[:, None]).all()
        seen.append([(int(code[0, 0]), tuple(code[:, 1].tolist())) for code in codes])
    return seen


def samples(batches):
    """All samples of some batches."""
    return list(itertools.chain.from_iterable(who(batches)))
