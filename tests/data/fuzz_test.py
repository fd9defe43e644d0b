"""Damaged and random files: an error or the right picture or grid, never a crash or a wrong one."""

import io
import struct
import zlib

import binvox_files
import numpy as np
import peak_memory
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import PNG_END, encoded, png_chunk, png_header, png_of, random_pixels
from PIL import Image

from r2n2_keras.data import binvox, binvox_graph, images, png
from r2n2_keras.data.binvox import Voxels
from r2n2_keras.errors import InputError
from r2n2_keras.model.image_spec import ImageSpec

EDGE = 4  # cells along the axes of the grids here
SIZE = 12  # edge of the view that pictures are put into
SPEC = ImageSpec(SIZE, 4, 255)

# What the fast part draws, and what the slow part does: more than 10,000 cases altogether.
FAST = settings(max_examples=200)
SLOW = settings(max_examples=6000)


def _graph(function):
    return tf.function(function, input_signature=[tf.TensorSpec((), tf.string)], autograph=False)


DECODERS = {
    "rendering": _graph(lambda content: images.decode_renderings(content[None], 1, SPEC)[0]),
    "picture": _graph(lambda content: images.decode_picture(content, SPEC)),
    "binvox": _graph(lambda content: binvox_graph.decode(content, EDGE)),
}


def _in_graph(name, content):
    """What a decoder makes of bytes, or None where it refuses them."""
    try:
        return DECODERS[name](content).numpy()
    except tf.errors.OpError:
        return None


def _mutated(draw, content, snippets):
    """The bytes with up to three changes."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        size = draw(st.integers(0, 12))
        piece = content[at : at + size]
        kind = draw(st.sampled_from(["flip", "byte", "cut", "end", "insert", "repeat", "move"]))
        if kind == "flip" and at < len(content):
            piece, size = bytes([content[at] ^ 1 << draw(st.integers(0, 7))]), 1
        elif kind == "byte":
            piece, size = draw(st.binary(min_size=1, max_size=1)), 1
        elif kind == "cut":
            piece = b""
        elif kind == "end":
            content, piece, size = content[:at], b"", 0
        elif kind == "insert":
            piece, size = draw(st.sampled_from(snippets) | st.binary(max_size=8)), 0
        elif kind == "repeat":
            piece *= 2
        elif kind == "move":
            content = content[:at] + content[at + size :]
            at, size = draw(st.integers(0, len(content))), 0
        content = content[:at] + piece + content[at + size :]
    return content


# Binvox files.

LINES = [
    b"dim 4 4 4", b"dim 4 4 4", b"dim 4 4 4", b"dim 4 4 5", b"dim 2 8 4", b"dim 4 4", b"dim 04 4 4",
    b" dim\t4 4  4 ", b"dim 4 4 4 # cells", b"dim 4 4 4#", b"dim 4 4 4\r", b"dim 1 1 1", b"dim",
    b"dims 9 9 9", b"dim 4 4 4 4", b"dim 4 +4 4", b"dim 4 4 0", b"dim4 4 4", b"#dim 4 4 4",
    b"dim 4 4\x0b4", b"dim 4 4 4.0", b"dim 99999999999 1 1", b"dim 1000 1000 1000",
    b"translate 0 0 0", b"translate -1.5 2e-3 +.5", b"translate 1 2", b"translate 1 2 3 4",
    b"translate 1 2 nan", b"translate 1_0 2 3", b"translate", b"Translate 0 0 0", b"translate 0,0",
    b"scale 1", b"scale 0x1", b"scale 1e99", b"scale 1e100", b"scale 1e-999", b"scale inf",
    b"scale", b"scale .", b"scale 5.", b"scale 1 #", b"scale -2", b"scale 1e", b"scale 0000e0000",
    b"scale -0", b"scale -1.5E-7", b"scale 2e+007", b"scale 3e99", b"scale " + b"9" * 200,
    b"", b"\r", b" \t", b"#", b"# a comment", b"# \xff\xfe", b"author me", b"data 1", b"data\x00",
    b"#data", b"datadata", b"#binvox 1", b"\xe2\x80\x83dim 4 4 4", b"\x00", b"data", b"data",
]  # fmt: skip
HARMLESS = [
    b"translate 1 2 3", b"scale 2", b"", b"# a comment", b"author me", b"#dim 1 1", b"\r", b"dims",
]  # fmt: skip
MAGICS = [b"#binvox 1", b"#binvox 1\r", b"#binvox 1 ", b"#binvox 2", b"#Binvox 1", b""]
ENDS = [b"data\n", b"data\r\n", b" data \n", b"data #\n", b"data\r\r\n", b"data", b"data\n\n"]
RUNS = st.lists(
    st.tuples(
        st.sampled_from([0, 1] * 20 + [2, 10, 255]),
        st.sampled_from([0, 1, 1, 2, 2, 3, 3, 5, 10, 32, 64, 255]),
    ),
    max_size=5,
)
SNIPPETS = [line + b"\n" for line in LINES] + [b"\n", b"\1\0", b"\0\0", b"\0\1", b"\1\1", b"data\n"]


@st.composite
def _headers_and_runs(draw):
    """Made of lines and runs that are often right, and nearly so otherwise."""
    some = st.sampled_from(HARMLESS)
    lines = draw(st.lists(some, max_size=3) | st.lists(some | st.sampled_from(LINES), max_size=3))
    if draw(st.integers(0, 3)):
        lines.insert(draw(st.integers(0, len(lines))), b"dim 4 4 4")
    magic = draw(st.sampled_from(MAGICS[:1] * 7 + MAGICS))
    end = draw(st.sampled_from(ENDS[:1] * 5 + ENDS))
    runs = draw(RUNS)
    missing = EDGE**3 - sum(count for _, count in runs)
    if 0 <= missing < 256 and draw(st.integers(0, 3)):
        runs.append((draw(st.integers(0, 1)), missing))
    return b"\n".join([magic, *lines, end]) + bytes(byte for run in runs for byte in run)


@st.composite
def _mutated_binvox(draw):
    cells = draw(st.integers(0, 2 ** (EDGE**3) - 1) | st.sampled_from([0, 1, 2 ** (EDGE**3) - 1]))
    grid = np.array([cells >> place & 1 for place in range(EDGE**3)], bool).reshape([EDGE] * 3)
    return _mutated(draw, binvox.encode(Voxels(grid, (-0.25, 0.5, 1e-5), 0.75)), SNIPPETS)


BINVOX = (
    _mutated_binvox()
    | _headers_and_runs()
    | st.binary(max_size=80)
    | st.binary(max_size=80).map(lambda runs: b"#binvox 1\ndim 4 4 4\ndata\n" + runs)
)


def _try_binvox(content):
    """Both readers against the reference; True where the bytes are a file."""
    expected = binvox_files.reference(content)
    try:
        voxels = binvox.decode(content)
    except InputError as error:
        assert len(str(error).splitlines()) == 1 and str(error).startswith("binvox: expected ")
        with pytest.raises(InputError) as checked:
            binvox.check(content)
        assert str(checked.value) == str(error)
        voxels = None
    assert (voxels is None) == (expected is None), content
    decoded = _in_graph("binvox", content)
    if voxels is None:
        assert decoded is None, content
        return False
    np.testing.assert_array_equal(voxels.data, expected.data)
    assert voxels.data.dtype == bool
    assert (voxels.translate, voxels.scale) == (expected.translate, expected.scale)
    assert binvox.check(content) == (voxels.dims, voxels.data.sum())
    if voxels.dims == (EDGE, EDGE, EDGE) and voxels.data.any():
        np.testing.assert_array_equal(decoded, voxels.data)
    else:
        assert decoded is None, content
    return True


def test_both_readers_take_the_same_lines():
    for line in dict.fromkeys(LINES):
        for start in (b"", b"dim 4 4 4\n"):
            for end in ENDS:
                _try_binvox(b"#binvox 1\n" + start + line + b"\n" + end + b"\1\x40")
    for magic in MAGICS:
        _try_binvox(magic + b"\ndim 4 4 4\ndata\n\1\x40")


def test_every_cut_of_a_binvox_file_is_refused():
    content = binvox.encode(Voxels(random_pixels(EDGE, EDGE, EDGE) < 80))
    assert _try_binvox(content)
    assert not any(_try_binvox(content[:size]) for size in range(len(content)))


@FAST
@given(BINVOX)
def test_binvox_files(content):
    _try_binvox(content)


@pytest.mark.slow
def test_many_binvox_files():
    # Neither nearly all nor nearly none are files: the cases lie about the border.
    assert 0.05 < _share_taken(BINVOX, _try_binvox) < 0.7


def _share_taken(strategy, attempt):
    taken = []

    @SLOW
    @given(strategy)
    def run(content):
        taken.append(attempt(content))

    run()
    assert len(taken) >= SLOW.max_examples
    return np.mean(taken)


# Pictures.


def _chunks(content):
    """[(kind, payload, whether its checksum holds)] as far as they are whole."""
    found, position = [], 8
    while position + 12 <= len(content):
        (size,) = struct.unpack(">I", content[position : position + 4])
        piece = content[position + 4 : position + 12 + size]
        if len(piece) < 8 + size:
            break
        (crc,) = struct.unpack(">I", piece[-4:])
        found.append((piece[:4], piece[4:-4], crc == zlib.crc32(piece[:-4])))
        position += 12 + size
    return found


def _sound_pictures():
    """Of each kind one: colour, alpha, palette, transparency, depth, a strip, several IDATs."""
    rgba = random_pixels(SIZE, SIZE, 4)
    image = Image.fromarray(rgba)
    rgb = image.convert("RGB")
    smooth = np.add.outer(np.arange(SIZE), np.arange(SIZE)).astype(np.uint8) * 10
    header, *chunks, end = _chunks(encoded(image))
    data = b"".join(payload for kind, payload, _ in chunks if kind == b"IDAT")
    parts = [(b"IDAT", data[at : at + 100]) for at in range(0, len(data), 100)]
    return [
        encoded(image),
        encoded(rgb),
        encoded(image.convert("L")),
        encoded(image.convert("LA")),
        encoded(image.convert("1")),
        encoded(rgb.quantize(16), transparency=0),
        encoded(rgb, transparency=tuple(int(c) for c in rgba[0, 0, :3])),
        encoded(smooth),
        encoded(image.resize((17, 5))),
        png_of(header[:2], (b"gAMA", b"\0\0\xb1\x8f"), *parts, end[:2]),
    ]


PICTURES = _sound_pictures()
PNG_PIECES = [
    (b"IEND", b""), (b"IDAT", b""), (b"tEXt", b"a\0b"), (b"abcd", b"x"), (b"tRNS", b"\0\1"),
    (b"PLTE", b"\0\1\2"), (b"gAMA", b"\0\0\0\1"), (b"ABCD", b"x"),
]  # fmt: skip
PNG_SNIPPETS = [png_chunk(*piece) for piece in PNG_PIECES]
PNG_SNIPPETS += [b"\x89PNG\r\n\x1a\n", b"\0\0\0\0", b"\xff\xff\xff\xff"]


@st.composite
def _mutated_png(draw):
    return _mutated(draw, draw(st.sampled_from(PICTURES)), PNG_SNIPPETS)


@st.composite
def _edited_png(draw):
    """Chunks taken away, doubled, moved and changed, with checksums that hold."""
    chunks = [[kind, payload] for kind, payload, _ in _chunks(draw(st.sampled_from(PICTURES)))]
    for _ in range(draw(st.integers(1, 2))):
        if not chunks:
            break
        at = draw(st.integers(0, len(chunks) - 1))
        kind = draw(st.sampled_from(["header", "header", "bytes", "drop", "double", "move", "add"]))
        if kind == "header" and len(chunks[0][1]) == 13:
            field, value = draw(
                st.tuples(st.sampled_from([0, 1]), st.integers(0, 40) | st.just(10**6))
                | st.tuples(st.just(2), st.sampled_from([1, 2, 4, 8, 16, 3]))
                | st.tuples(st.just(3), st.integers(0, 7))
                | st.tuples(st.integers(4, 6), st.integers(0, 2))
            )
            fields = list(struct.unpack(">IIBBBBB", chunks[0][1]))
            fields[field] = value
            chunks[0][1] = struct.pack(">IIBBBBB", *fields)
        elif kind == "bytes" and at and chunks[at][1]:
            chunks[at][1] = _mutated(draw, chunks[at][1], [b"\0", b"\xff" * 4])
        elif kind == "drop":
            del chunks[at]
        elif kind == "double":
            chunks.insert(at, list(chunks[at]))
        elif kind == "move":
            chunks.insert(draw(st.integers(0, len(chunks) - 1)), chunks.pop(at))
        elif kind == "add":
            chunks.insert(at, list(draw(st.sampled_from(PNG_PIECES))))
    return png_of(*chunks)


@st.composite
def _repacked_png(draw):
    """Sound to the last checksum, but with other pixels, or too few, or too many."""
    kind = draw(st.sampled_from([0, 2, 4, 6]))
    depth = draw(st.sampled_from([8, 8, 8, 16]))
    width, height = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    size = 1 + width * {0: 1, 2: 3, 4: 2, 6: 4}[kind] * depth // 8
    rows = draw(st.binary(max_size=40)) * (size * height)
    rows = bytearray(
        rows[: size * height + draw(st.sampled_from([0, 0, 0, 0, -1, -size, 1, size]))]
    )
    for start in range(0, len(rows), size):
        rows[start] = draw(st.sampled_from([0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5]))
    data = b"IDAT", zlib.compress(bytes(rows), 1)
    return png_of(png_header(width, height, depth, kind), data, PNG_END)


PNGS = (
    _mutated_png()
    | _edited_png()
    | _repacked_png()
    | st.binary(max_size=80)
    | st.binary(max_size=80).map(lambda rest: b"\x89PNG\r\n\x1a\n" + rest)
)


def _pillow(content):
    """The picture as Pillow sees it, RGBA, or None where it refuses the bytes."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.mode == "I;16":  # `convert` cuts to 255 instead of scaling
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return image.convert("RGBA")
    except Exception:  # it raises many kinds
        return None


def _comparable(content):
    """Whether TensorFlow and Pillow mean the same by what both take."""
    chunks = _chunks(content)
    if not all(sound for kind, _, sound in chunks if kind == b"IDAT"):
        return False
    kinds = [kind for kind, _, _ in chunks]
    keys = [payload for kind, payload, _ in chunks if kind == b"tRNS"]
    depth, colour = chunks[0][1][8:10]
    if keys:
        # libpng passes over transparency that is doubled, out of its place or too long; Pillow
        # takes the last there is, wherever it stands.
        before = kinds[: kinds.index(b"IDAT")]
        if len(keys) > 1 or before[-1:] != [b"tRNS"] or depth == 16:
            return False
        if colour == 3 and len(keys[0]) > len(chunks[kinds.index(b"PLTE")][1]) // 3:
            return False
        if colour != 3 and len(keys[0]) != {0: 2, 2: 6}.get(colour):
            return False
    return True


def _try_picture(content):
    """Decoders of pictures against Pillow and the check; True where the bytes are a picture."""
    found = {name: _in_graph(name, content) for name in ("rendering", "picture")}
    expected = None
    for name, image in found.items():
        if image is None:
            continue
        assert image.shape == (SIZE, SIZE, 4) and image.dtype == np.float32
        # Where a picture is resized the weights of a pixel sum to 1 up to rounding only.
        assert np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1 + 1e-6
        expected = expected or _pillow(content)
        if expected and _comparable(content):
            # The same pixels in sound bytes make the same view.
            again = _in_graph(name, encoded(expected))
            np.testing.assert_array_equal(image, again, err_msg=f"{name} {content}")
    try:
        png.check(content)
        assert found["rendering"] is not None, content
    except ValueError as error:
        # TensorFlow passes over chunks that may be missing and have a wrong checksum.
        whole = all(sound for *_, sound in _chunks(content))
        assert found["rendering"] is None or not whole, (error, content)
    return found["rendering"] is not None


@pytest.mark.parametrize("content", PICTURES)
def test_sound_pictures(content):
    """The seeds of the mutations are taken, and cut anywhere they never give another picture."""
    assert _try_picture(content)
    for size in range(0, len(content), 7):
        _try_picture(content[:size])


@FAST
@given(PNGS)
def test_pictures(content):
    _try_picture(content)


@pytest.mark.slow
def test_many_pictures():
    assert 0.1 < _share_taken(PNGS, _try_picture) < 0.7


def test_no_memory_is_taken_by_what_a_picture_claims():
    content = png_of(png_header(60_000, 60_000), (b"IDAT", zlib.compress(bytes(1000))), PNG_END)
    for name in ("rendering", "picture"):
        with peak_memory.below(10e6):
            assert _in_graph(name, content) is None
