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
    larger than `MAX_PNG_EDGE` along an edge. Takes the files that TensorFlow takes, but for those
    with wrong checksums that TensorFlow passes over.
    """
    if not content.startswith(_SIGNATURE):
        received = f"{len(content)} bytes that begin with {content[:8]!r}"
        raise ValueError(f"expected a PNG, received {received if content else 'an empty file'}")
    try:
        with _opened(content) as picture:
            width, height = picture.size
            if not 0 < min(picture.size) <= max(picture.size) <= MAX_PNG_EDGE:
                raise ValueError(f"{width}x{height} pixels, more than {MAX_PNG_EDGE} along an edge")
            picture.verify()  # the checksums, after which nothing can be decoded
        with _opened(content) as picture:
            picture.load()
        if _END not in content:
            raise ValueError("it ends early")
    except Exception as error:  # Pillow raises all kinds for what it finds damaged
        why = "no such header" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"expected a PNG, received one that cannot be decoded ({why})") from None
    return f"{width}x{height} {_MODES.get(picture.mode, picture.mode)}"


def _opened(content):
    return Image.open(io.BytesIO(content), formats=["PNG"])
