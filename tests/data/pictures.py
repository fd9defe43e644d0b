"""Pictures that tests make, and what compositing them means."""

import io

import numpy as np
from PIL import Image


def random_pixels(*shape, seed=0):
    """uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels, kind="PNG", **options):
    """The bytes of a file; of an array, or of one of Pillow's images."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def composited(rgba, background):
    """float64 (H, W, 3): the definition of alpha compositing."""
    colour, alpha = rgba[..., :3] / 255, rgba[..., 3:] / 255
    return colour * alpha + background / 255 * (1 - alpha)
