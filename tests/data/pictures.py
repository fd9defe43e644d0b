"""Pictures that tests make, and what compositing them means."""

import io
import struct
import zlib

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


def png_chunk(kind, payload):
    """The bytes of a chunk of a PNG file."""
    checksum = struct.pack(">I", zlib.crc32(kind + payload))
    return struct.pack(">I", len(payload)) + kind + payload + checksum


def png_of(*chunks):
    """A PNG file of (kind, payload) pairs."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_header(width, height, depth=8, colour=6, interlaced=0):
    """The first chunk; what is claimed need not hold."""
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)


PNG_END = b"IEND", b""


def claiming(kind, edge):
    """A small file of that kind with `edge` x `edge` pixels by its header."""
    options = {"lossless": True} if kind == "WEBP lossless" else {}
    content = bytearray(encoded(random_pixels(8, 8, 3), kind.split()[0], **options))
    if kind == "GIF":
        content[6:10] = edge.to_bytes(2, "little") * 2
    elif kind == "GIF frame":
        at = content.index(b"\x2c\0\0\0\0\x08\0\x08\0")
        content[at + 5 : at + 9] = edge.to_bytes(2, "little") * 2
    elif kind == "JPEG":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = edge.to_bytes(2, "big") * 2
    elif kind == "BMP":
        content[18:26] = edge.to_bytes(4, "little") + (-edge).to_bytes(4, "little", signed=True)
    elif kind == "WEBP":
        content[26:30] = edge.to_bytes(2, "little") * 2
    elif kind == "WEBP lossless":
        packed = int.from_bytes(content[21:25], "little") >> 28 << 28
        content[21:25] = (packed | (edge - 1) << 14 | edge - 1).to_bytes(4, "little")
    else:  # the extended header stands before the picture's own
        extended = b"VP8X" + (10).to_bytes(4, "little") + bytes(4)
        content[12:12] = extended + (edge - 1).to_bytes(3, "little") * 2
    return bytes(content)
