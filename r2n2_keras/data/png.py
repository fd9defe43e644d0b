"""Whether a PNG file is whole, told without TensorFlow."""

import io
import warnings

from PIL import Image, UnidentifiedImageError

# A picture may claim more pixels than the memory holds in a few bytes of file.
MAX_PNG_EDGE = 4096

_SIGNATURE, _END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
_MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with alpha",
    "P": "palette",
    "I;16": "grey of 16 bits",
}

warnings.filterwarnings("ignore", "Invalid APNG")  # its first picture is what counts


def check(content: bytes) -> str:
    """Decodes a PNG file; gives its size and mode, such as "137x137 RGBA".

    Raises a ValueError that says what was expected and what was received where it is broken, or
    larger than `MAX_PNG_EDGE` along an edge. TensorFlow passes over some wrong checksums that are
    told here, and refuses odd files that Pillow takes, such as one that lacks its last rows.
    """
    if not content.startswith(_SIGNATURE):
        received = f"{len(content)} bytes that begin with {content[:8]!r}"
        raise ValueError(f"expected a PNG, received {received if content else 'an empty file'}")
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    if max(width, height) > MAX_PNG_EDGE:
        raise ValueError(
            f"expected a PNG of 1 to {MAX_PNG_EDGE} pixels along each edge, received one of "
            f"{width}x{height}"
        )
    try:
        with _opened(content) as picture:
            picture.verify()  # the checksums, after which nothing can be decoded
        with _opened(content) as picture:
            picture.load()
        if _END not in content:
            raise ValueError("it ends early")
    except Exception as error:  # Pillow raises all kinds for what it finds damaged
        why = "its chunks are damaged" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"expected a PNG, received one that cannot be decoded ({why})") from None
    return f"{width}x{height} {_MODES.get(picture.mode, picture.mode)}"


def _opened(content):
    return Image.open(io.BytesIO(content), formats=["PNG"])
