"""Binvox files: round trips, trimesh and the specification as oracles, errors, whole files."""

import contextlib
import io
import math
import tracemalloc

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from trimesh.exchange.binvox import export_binvox, load_binvox, parse_binvox, voxel_from_binvox

from r2n2_keras.data import binvox
from r2n2_keras.data.binvox import Voxels
from r2n2_keras.errors import InputError

GRIDS = st_numpy.arrays(
    bool, st_numpy.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.booleans()
)
NUMBERS = st.floats(-1e6, 1e6, width=32)
ORDERS = st.sampled_from(["xzy", "xyz"])
HEADER = b"#binvox 1\ndim 2 2 2\ntranslate 0 0 0\nscale 1\ndata\n"


def _naive_decode(content, axis_order="xzy"):
    """[x, y, z] cell by cell, by the index formula of the specification."""
    header, body = content.split(b"\ndata\n", 1)
    (dims,) = [line.split()[1:] for line in header.split(b"\n") if line.startswith(b"dim")]
    sizes = dict(zip(axis_order, (int(word) for word in dims), strict=True))
    flat = [value for value, count in zip(body[::2], body[1::2], strict=True) for _ in range(count)]
    _, middle, fast = axis_order
    grid = np.zeros((sizes["x"], sizes["y"], sizes["z"]), bool)
    for x, y, z in np.ndindex(grid.shape):
        place = {"x": x, "y": y, "z": z}
        slow = x * sizes[middle] * sizes[fast]
        grid[x, y, z] = flat[slow + place[middle] * sizes[fast] + place[fast]]
    return grid


@contextlib.contextmanager
def _memory(limit):
    """Fails where the block has more than `limit` bytes allocated at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def _random(seed, shape, share=0.3):
    return np.random.default_rng(seed).random(shape) < share


@given(GRIDS, st.tuples(NUMBERS, NUMBERS, NUMBERS), NUMBERS, ORDERS)
def test_round_trip(grid, translate, scale, axis_order):
    content = binvox.encode(Voxels(grid, translate, scale), axis_order)
    again = binvox.decode(content, axis_order=axis_order)
    assert again.data.dtype == bool and again.dims == grid.shape
    np.testing.assert_array_equal(again.data, grid)
    np.testing.assert_array_equal(_naive_decode(content, axis_order), grid)
    assert again.translate == pytest.approx(translate, rel=1e-8)
    assert again.scale == pytest.approx(scale, rel=1e-8)
    assert binvox.check(content, axis_order=axis_order) == (grid.shape, grid.sum())


def test_a_file_keeps_its_bytes(tmp_path):
    voxels = Voxels(_random(0, (32, 32, 32)), (-0.25, 0.5, 1.5), 0.75)
    binvox.write(tmp_path / "one.binvox", voxels)
    binvox.write(str(tmp_path / "two.binvox"), binvox.read(tmp_path / "one.binvox"))
    assert (tmp_path / "one.binvox").read_bytes() == (tmp_path / "two.binvox").read_bytes()


def test_the_axes_of_a_file_are_x_z_y():
    grid = np.zeros((2, 3, 4), bool)
    grid[1, 2, 0] = True
    header, body = binvox.encode(Voxels(grid)).split(b"data\n", 1)
    assert b"\ndim 2 4 3\n" in header
    place = 1 * 4 * 3 + 0 * 3 + 2
    assert list(body) == [0, place, 1, 1, 0, 24 - place - 1]


def test_the_axes_of_a_file_may_be_x_y_z(tmp_path):
    grid = np.zeros((2, 3, 4), bool)
    grid[1, 2, 0] = True
    path = tmp_path / "model.binvox"
    binvox.write(path, Voxels(grid), axis_order="xyz")
    header, body = path.read_bytes().split(b"data\n", 1)
    assert b"\ndim 2 3 4\n" in header
    place = 1 * 3 * 4 + 2 * 4 + 0
    assert list(body) == [0, place, 1, 1, 0, 24 - place - 1]
    np.testing.assert_array_equal(binvox.read(path, axis_order="xyz").data, grid)
    assert binvox.check(path.read_bytes(), axis_order="xyz") == ((2, 3, 4), 1)
    # Told otherwise, the same bytes are another grid.
    assert binvox.read(path).dims == (2, 4, 3)
    np.testing.assert_array_equal(binvox.read(path).data, grid.transpose(0, 2, 1))


@pytest.mark.parametrize("axis_order", ["zyx", "", None])
def test_other_axis_orders_are_told(tmp_path, axis_order):
    voxels = Voxels(np.ones((2, 2, 2), bool))
    path = tmp_path / "model.binvox"
    binvox.write(path, voxels)
    for call in (
        lambda: binvox.read(path, axis_order=axis_order),
        lambda: binvox.decode(HEADER + b"\1\x08", axis_order=axis_order),
        lambda: binvox.check(HEADER + b"\1\x08", axis_order=axis_order),
        lambda: binvox.encode(voxels, axis_order=axis_order),
        lambda: binvox.write(path, voxels, axis_order=axis_order),
    ):
        with pytest.raises(InputError, match="Expected axis_order 'xzy' or 'xyz', received"):
            call()


@pytest.mark.parametrize("length", [1, 254, 255, 256, 509, 510, 511, 1020])
def test_runs_of_any_length(length):
    """Also those that fill one byte, or several, exactly; at the end of the file and within it."""
    for start in (0, 7, 1100 - length):
        grid = np.zeros((11, 10, 10), bool)
        grid.transpose(0, 2, 1).flat[start : start + length] = True
        assert grid.sum() == length or start + length > 1100
        content = binvox.encode(Voxels(grid))
        np.testing.assert_array_equal(binvox.decode(content).data, grid)
        counts = content.split(b"data\n", 1)[1][1::2]
        assert 0 not in counts and sum(counts) == 1100


@pytest.mark.parametrize("value", [False, True])
def test_full_and_empty_grids(value):
    grid = np.full((32, 32, 32), value)
    content = binvox.encode(Voxels(grid))
    np.testing.assert_array_equal(binvox.decode(content).data, grid)
    body = content.split(b"data\n", 1)[1]
    assert set(body[::2]) == {int(value)} and len(body) == 2 * -(-(32**3) // 255)


# trimesh counts x, y, z in `dim` whatever the order of the cells, so that in "xzy" it reads grids
# of equal y and z only; and it has the grid's corners in the centres of the outermost cells.


@pytest.mark.parametrize(
    ("shape", "axis_order"),
    [
        ((8, 8, 8), "xzy"),
        ((32, 32, 32), "xzy"),
        ((5, 8, 8), "xzy"),
        ((8, 8, 8), "xyz"),
        ((5, 8, 3), "xyz"),
    ],
)
def test_trimesh_reads_what_is_written(shape, axis_order):
    grid = _random(1, shape)
    content = binvox.encode(Voxels(grid, (0.5, -1, 2), 3.0), axis_order)
    if axis_order == "xzy":
        voxels = load_binvox(io.BytesIO(content))
    else:  # `load_binvox` hands its own shape on as an array, which "xyz" cannot take
        parsed = parse_binvox(io.BytesIO(content))
        parts = {**parsed._asdict(), "shape": tuple(parsed.shape), "axis_order": axis_order}
        voxels = voxel_from_binvox(**parts)
    np.testing.assert_array_equal(voxels.matrix, grid)
    np.testing.assert_allclose(voxels.translation, (0.5, -1, 2))
    np.testing.assert_allclose(voxels.scale * (np.array(shape) - 1), 3.0)


@pytest.mark.parametrize("axis_order", ["xzy", "xyz"])
@pytest.mark.parametrize("seed", range(3))
def test_what_trimesh_writes_is_read(seed, axis_order):
    grid = _random(seed, (32, 32, 32), [0.01, 0.3, 0.9][seed])
    transform = trimesh.transformations.scale_and_translate(2.0 / 31, (0.5, -1, 2))
    content = export_binvox(trimesh.voxel.VoxelGrid(grid, transform), axis_order=axis_order)
    assert b"# generated" in content
    voxels = binvox.decode(content, axis_order=axis_order)
    np.testing.assert_array_equal(voxels.data, grid)
    assert voxels.translate == pytest.approx((0.5, -1, 2)) and voxels.scale == pytest.approx(2)


def test_real_files_agree_with_trimesh(real_data):
    paths = sorted(real_data.glob("ShapeNetVox32/*/*/model.binvox"))
    assert paths
    for path in [*paths, real_data / "odd" / "chair_model.binvox"]:
        ours = binvox.read(path)
        theirs = load_binvox(io.BytesIO(path.read_bytes()))
        assert ours.dims == (32, 32, 32) and 0.005 < ours.data.mean() < 0.5
        np.testing.assert_array_equal(ours.data, theirs.matrix)
        assert ours.translate == pytest.approx(theirs.translation)
        assert ours.scale == pytest.approx(theirs.scale * 31)
        again = binvox.decode(binvox.encode(ours))
        np.testing.assert_array_equal(again.data, ours.data)
        assert (again.translate, again.scale) == (ours.translate, ours.scale)


def test_the_odd_real_file(real_data):
    """Comments, blanks, and the header's lines in another order."""
    voxels = binvox.read(real_data / "odd" / "chair_model.binvox")
    assert voxels.translate == (-0.265511, -0.331878, -0.263364) and voxels.scale == 0.663756


def test_header_in_any_order_with_comments():
    grid = _random(3, (2, 2, 2), 0.5)
    body = binvox.encode(Voxels(grid)).split(b"data\n", 1)[1]
    header = (
        b"#binvox 1\n# a comment\n\n   scale 0.5   # of the grid\n#dim 9 9 9\n# gr\xf6\xdfe\n"
        b"dim 2\t2 2 # cells\n  translate -1 2e0 +.5\ndata\n"
    )
    voxels = binvox.decode(header + body)
    np.testing.assert_array_equal(voxels.data, grid)
    assert voxels.translate == (-1, 2, 0.5) and voxels.scale == 0.5


def test_translate_and_scale_have_defaults():
    voxels = binvox.decode(b"#binvox 1\ndim 2 2 2\ndata\n\x01\x08")
    assert voxels.translate == (0, 0, 0) and voxels.scale == 1 and voxels.data.all()


@pytest.mark.parametrize(
    "number", ["-0", "+5.", ".25", "1e5", "-1.5E-7", "1e-400", "2e+007", "3e99", "9" * 200]
)
def test_numbers_of_any_decimal_form(number):
    header = f"#binvox 1\ndim 2 2 2\ntranslate {number} 0 {number}\nscale {number}\ndata\n"
    voxels = binvox.decode(header.encode() + b"\1\x08")
    assert voxels.translate == (float(number), 0, float(number)) and voxels.scale == float(number)


def test_runs_of_no_cells_are_passed_over():
    """The original's `binvox_rw.py` writes one behind a run of 255 cells that ends there."""
    content = b"#binvox 1\ndim 1 1 300\ndata\n" + bytes([0, 255, 0, 0, 1, 45])
    assert binvox.decode(content).data.ravel().tolist() == [False] * 255 + [True] * 45
    assert binvox.check(content) == ((1, 300, 1), 45)


def test_unknown_keywords_and_carriage_returns():
    header = b"#binvox 1\r\n\r\nauthor A B\r\ndim 002 2 2\r\ndims 9 9 9\r\n\tdata # \xff\r\n"
    voxels = binvox.decode(header + b"\1\x08")
    assert voxels.dims == (2, 2, 2) and voxels.data.all()


def test_the_header_has_room_for_comments():
    """Up to 64 KiB with the line `data`."""
    before, after = b"#binvox 1\ndim 2 2 2\n#", b"\ndata\n"
    room = binvox.MAX_HEADER - len(before) - len(after)
    assert binvox.decode(before + b"." * room + after + b"\1\x08").data.all()
    with pytest.raises(InputError, match="line 'data' after the header, received none in 65536"):
        binvox.decode(before + b"." * (room + 1) + after + b"\1\x08")


DIM = b"dim 2 2 2\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"begins with '#binvox 1', received b'' \(0 bytes\)"),
        (b"\x89PNG\r\n\x1a\n", r"begins with '#binvox 1', received b'\\x89PNG"),
        (b"#binvox 2\ndim 2 2 2\ndata\n\1\x08", "received b'#binvox 2"),
        (b"#binvox 12\ndim 2 2 2\ndata\n\1\x08", "received b'#binvox 12'"),
        (b"#binvox 1 \ndim 2 2 2\ndata\n\1\x08", "received b'#binvox 1 '"),
        (b"#binvox 1", "a line 'data' after the header, received none"),
        (b"#binvox 1\ndim 2 2 2\n\1\x08", "a line 'data' after the header, received none"),
        (b"#binvox 1\ndim 2 2 2\ndata", "a line 'data' after the header, received none"),
        (b"#binvox 1\ndata\n\1\x08", "'dim' of at most 1073741824 cells, received none"),
        (b"#binvox 1\ndim 2 2\ndata\n\1\4", "'dim' with 3 counts above 0, received 'dim 2 2'"),
        (b"#binvox 1\ndim\ndata\n\1\4", "received 'dim'"),
        (b"#binvox 1\ndim 2 2 2 2\ndata\n\1\x10", "received 'dim 2 2 2 2'"),
        (b"#binvox 1\ndim 2 -2 2\ndata\n\1\x08", "received 'dim 2 -2 2'"),
        (b"#binvox 1\ndim 2 0 2\ndata\n", "received 'dim 2 0 2'"),
        (b"#binvox 1\ndim 2 two 2\ndata\n\1\x08", "received 'dim 2 two 2'"),
        (b"#binvox 1\ndim 2 2\x85 2\ndata\n\1\x08", r"received 'dim 2 2\\x85 2'"),
        (b"#binvox 1\ndim 2\x0b2 2\ndata\n\1\x08", r"received 'dim 2\\x0b2 2'"),
        (b"#binvox 1\ndim 2 2 2\ndim 2 2 2\ndata\n\1\x08", "'dim 2 2 2' and 'dim 2 2 2'"),
        (b"#binvox 1\n" + DIM * 99 + b"data\n\1\x08", "'dim 2 2 2' and 'dim 2 2 2'. The"),
        (b"#binvox 1\ndim 99999 99999 9\ndata\n\1\x08", "received 'dim 99999 99999 9'"),
        (b"#binvox 1\ndim " + b"9" * 5000 + b" 1 1\ndata\n\1\x08", "received 'dim 9999"),
        (b"#binvox 1\ndim 2 2 2\nscale\ndata\n\1\x08", "with 1 number, received 'scale'"),
        (b"#binvox 1\ndim 2 2 2\nscale nan\ndata\n\1\x08", "received 'scale nan'"),
        (b"#binvox 1\ndim 2 2 2\nscale 1e100\ndata\n\1\x08", "received 'scale 1e100'"),
        (b"#binvox 1\ndim 2 2 2\nscale 1_0\ndata\n\1\x08", "received 'scale 1_0'"),
        (b"#binvox 1\ndim 2 2 2\nscale 1\nscale 2\ndata\n\1\x08", "'scale 1' and 'scale 2'"),
        (b"#binvox 1\ndim 2 2 2\ntranslate 0 0\ndata\n\1\x08", "received 'translate 0 0'"),
        (b"#binvox 1\ndim 2 2 2\ntranslate a b c\ndata\n\1\x08", "received 'translate a b c'"),
        (b"#binvox 1\ndata 8\ndim 2 2 2\ndata\n\1\x08", "received 'data 8' and 'data'"),
        (HEADER, "fill 2x2x2 cells, received 0 bytes for 0 cells"),
        (HEADER + b"\1\4", "fill 2x2x2 cells, received 2 bytes for 4 cells"),
        (HEADER + b"\1\4\0\5", "received 4 bytes for 9 cells"),
        (HEADER + b"\1\4\0", "received 3 bytes for 4 cells"),
        (HEADER + b"\1\x08\0", "received 3 bytes for 8 cells"),
        (HEADER + b"\1\x08" + b"\0\0" * 16, "received 34 bytes for 8 cells"),
        (HEADER + b"\1\4\2\4", "runs of 0 .empty. or 1 .occupied., received a run of 2"),
        (HEADER + b"\1\x08\xff\0", "received a run of 255"),
    ],
)
def test_what_is_no_whole_file_is_told(tmp_path, content, words):
    path = tmp_path / "model.binvox"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        binvox.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected ") and len(message.splitlines()) == 1
    assert len(message) < len(str(path)) + 400
    with pytest.raises(InputError) as again:
        binvox.check(content, str(path))
    assert str(again.value) == message


def test_every_cut_of_a_file_is_told():
    content = binvox.encode(Voxels(_random(4, (4, 4, 4))))
    for size in range(len(content)):
        with pytest.raises(InputError):
            binvox.decode(content[:size])


# Memory and time.


@pytest.mark.parametrize("dims", ["10000 10000 10000", "1000000000000 1 1", "1025 1024 1024"])
def test_a_header_that_claims_too_much_allocates_nothing(dims):
    content = f"#binvox 1\ndim {dims}\ndata\n".encode() + b"\1\xff" * 8
    with _memory(100_000), pytest.raises(InputError, match=f"received 'dim {dims}'"):
        binvox.decode(content)


def test_a_large_claim_without_its_runs_allocates_nothing():
    content = b"#binvox 1\ndim 1024 1024 1024\ndata\n" + b"\1\xff" * 8
    for function in (binvox.decode, binvox.check):
        with _memory(100_000), pytest.raises(InputError, match="16 bytes for 2040 cells"):
            function(content)


def test_runs_of_far_too_many_cells_allocate_nothing(tmp_path):
    content = HEADER + b"\1\xff" * 10_000_000
    path = tmp_path / "model.binvox"
    path.write_bytes(content)
    for function in (lambda: binvox.decode(content), lambda: binvox.read(path)):
        with _memory(300_000), pytest.raises(InputError, match="cells and more"):
            function()


@pytest.mark.parametrize("start", [HEADER, b"", b"#binvox 1\n"])
def test_no_more_of_a_file_is_read_than_its_grid_needs(tmp_path, start):
    path = tmp_path / "model.binvox"
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(2**33)
    with _memory(500_000), pytest.raises(InputError):
        binvox.read(path)


def test_a_large_file_is_read_whole(tmp_path):
    grid = _random(6, (64, 64, 64), 0.5)
    path = tmp_path / "model.binvox"
    binvox.write(path, Voxels(grid))
    assert path.stat().st_size > binvox.MAX_HEADER
    np.testing.assert_array_equal(binvox.read(path).data, grid)


def test_checking_makes_no_grid():
    cells = 512**3
    full, rest = divmod(cells, 255)
    content = b"#binvox 1\ndim 512 512 512\ndata\n" + b"\1\xff" * full + bytes([1, rest])
    with _memory(cells // 50):
        assert binvox.check(content) == ((512, 512, 512), cells)


def test_no_header_takes_long():
    """Each would take minutes, or not end, where the grammar can be matched in many ways."""
    digits = b"1" * 15000
    for line in (
        b"translate " + b" ".join([digits] * 3) + b" x",
        b"translate " + b" ".join([b"0" * 150 + b"." + digits] * 3) + b" x",
        b"translate " + b" ".join([b"1e" + b"0" * 15000] * 3) + b" x",
        b"dim " + b" ".join([b"0" * 15000] * 3),
        b"scale" + b" \t" * 25000 + b"x",
        b"\n \n" * 15000,
        b"\ndata" * 10000,
        b"# data\n" * 8000,
    ):
        with pytest.raises(InputError):
            binvox.decode(b"#binvox 1\n" + line + b"\ndata\n\1\x08")


# Where cells stand.


def test_positions_by_hand():
    """A chair leg of 4 x 8 x 2 cells, 0.5 along y: cells of 1/16."""
    voxels = Voxels(np.ones((4, 8, 2), bool), (-1, 0, 10), 0.5)
    np.testing.assert_array_equal(
        voxels.to_world([[0, 0, 0], [3, 7, 1]]),
        [[-1 + 1 / 32, 1 / 32, 10 + 1 / 32], [-1 + 7 / 32, 15 / 32, 10 + 3 / 32]],
    )
    np.testing.assert_array_equal(
        voxels.to_world([[0, 0, 0], [3, 7, 1]], centred=True),
        [[-3 / 32, -7 / 32, -1 / 32], [3 / 32, 7 / 32, 1 / 32]],
    )
    assert voxels.to_ijk((-1, 0, 10)).tolist() == [0, 0, 0]
    assert voxels.to_ijk((-1, 0.0625, 10.0624)).tolist() == [0, 1, 0]
    # Outside: below 0, or as many cells and more.
    assert voxels.to_ijk((-1.01, 0.5, 11)).tolist() == [-1, 8, 16]
    assert voxels.to_ijk((0, 0, 0), centred=True).tolist() == [2, 4, 1]
    assert voxels.to_ijk((-0.13, -0.26, 0.07), centred=True).tolist() == [-1, -1, 2]


SIDES = st.integers(1, 9)
CELLS = st_numpy.arrays(
    np.int64,
    st_numpy.array_shapes(max_dims=3, max_side=4).map(lambda shape: (*shape, 3)),
    elements=st.integers(-1000, 1000),
)
VOXELS = st.builds(
    Voxels,
    st.tuples(SIDES, SIDES, SIDES).map(lambda shape: np.ones(shape, bool)),
    st.tuples(*[st.floats(-100, 100)] * 3),
    st.floats(0.01, 100),
)


@given(VOXELS, CELLS, st.booleans())
def test_cells_to_world_and_back(voxels, cells, centred):
    points = voxels.to_world(cells, centred)
    assert points.shape == cells.shape and points.dtype == np.float64
    again = voxels.to_ijk(points, centred)
    assert again.dtype == np.int64
    np.testing.assert_array_equal(again, cells)


@given(VOXELS, CELLS, st.booleans())
def test_points_are_in_the_cells_that_hold_them(voxels, cells, centred):
    points = cells / 37
    centres = voxels.to_world(voxels.to_ijk(points, centred), centred)
    edge = voxels.scale / max(voxels.dims)
    assert (np.abs(points - centres) <= edge / 2 + 1e-9).all()


@given(VOXELS, st.booleans())
def test_the_grid_spans_its_scale(voxels, centred):
    last = np.array(voxels.dims) - 1
    low, high = voxels.to_world([[-0.5] * 3, last + 0.5], centred)
    assert (high - low).max() == pytest.approx(voxels.scale)
    corner = -high if centred else voxels.translate
    np.testing.assert_allclose(low, corner, atol=1e-9)


def test_real_grids_are_centred(real_data):
    """There the mesh's lowest corner, `translate`, is where the lowest occupied cells are."""
    paths = sorted(real_data.glob("ShapeNetVox32/*/*/model.binvox"))
    assert paths
    for path in paths:
        voxels = binvox.read(path)
        cells = np.argwhere(voxels.data)
        points = voxels.to_world(cells, centred=True)
        np.testing.assert_allclose(
            points, ((cells + 0.5) / 32 - 0.5) * voxels.scale, atol=1e-12, err_msg=str(path)
        )
        np.testing.assert_array_equal(voxels.to_ijk(points, centred=True), cells)
        edge = voxels.scale / 32
        np.testing.assert_allclose(points.min(axis=0) - edge / 2, voxels.translate, atol=edge)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_grids_without_extent_have_no_positions(scale):
    voxels = Voxels(np.ones((2, 2, 2), bool), scale=scale)
    for function in (voxels.to_world, voxels.to_ijk):
        with pytest.raises(InputError, match=f"scale above 0, received {scale:g}"):
            function([0, 0, 0])


def test_what_is_no_position_is_told():
    voxels = Voxels(np.ones((2, 2, 2), bool), scale=1e-3)
    for function in (voxels.to_world, voxels.to_ijk):
        for values in (5, [1, 2], [[1, 2, 3, 4]]):
            with pytest.raises(InputError, match=r"of shape \(..., 3\), received shape"):
                function(values)
        assert function(np.zeros((0, 3))).shape == (0, 3)
    for number in (math.nan, math.inf, -1e15, 1.7e308):
        with pytest.raises(InputError, match="finite points within 2\\^53 cells"):
            voxels.to_ijk([0, 0, number])


# Files.


@pytest.mark.parametrize("name", ["nobody.binvox", "."])
def test_a_file_that_cannot_be_opened_is_told(tmp_path, name):
    with pytest.raises(InputError, match=r"Expected a binvox file, received .*: \w+") as caught:
        binvox.read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(4, 4), (2, 2, 2, 2), (0, 4, 4), (1025, 1024, 1024)])
def test_what_is_no_grid_is_not_written(tmp_path, shape):
    path = tmp_path / "model.binvox"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match="grid of 3 axes") as caught:
        binvox.write(path, Voxels(np.broadcast_to(True, shape)))
    assert str(shape) in str(caught.value)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("translate", "scale"),
    [((0, 0), 1), ((0, 0, math.nan), 1), ((0, math.inf, 0), 1), ((0, 0, 0), 1e100)],
)
def test_what_could_not_be_read_is_not_written(translate, scale):
    with pytest.raises(InputError, match="3 finite numbers for translate and 1 for scale"):
        binvox.encode(Voxels(np.ones((2, 2, 2), bool), translate, scale))


def test_a_long_thin_grid_is_written_and_read():
    grid = _random(7, (1_000_003, 1, 2), 0.001)
    np.testing.assert_array_equal(binvox.decode(binvox.encode(Voxels(grid))).data, grid)


def test_writing_replaces_the_whole_file(tmp_path):
    path = tmp_path / "model.binvox"
    path.write_bytes(b"old")
    voxels = Voxels(_random(5, (3, 4, 5)))
    binvox.write(path, voxels)
    np.testing.assert_array_equal(binvox.read(path).data, voxels.data)
    assert list(tmp_path.iterdir()) == [path]


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.binvox"
    path.write_bytes(b"old")

    def crash(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(binvox.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        binvox.write(path, Voxels(np.ones((2, 2, 2), bool)))
    assert path.read_bytes() == b"old"


def test_numbers_that_are_not_bool_count_as_occupied_above_zero():
    grid = np.arange(8).reshape(2, 2, 2) % 3
    np.testing.assert_array_equal(binvox.decode(binvox.encode(Voxels(grid))).data, grid > 0)
