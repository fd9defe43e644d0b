"""Binvox files: round trips, trimesh and the specification as oracles, errors, whole files."""

import io
import math
from unittest import mock

import binvox_files
import numpy as np
import peak_memory
import pytest
from binvox_files import HEADER, RUNS
from commands import refusal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from trimesh.exchange.binvox import export_binvox, load_binvox, parse_binvox, voxel_from_binvox
from trimesh.voxel import VoxelGrid

from r2n2_keras.data import binvox
from r2n2_keras.data.binvox import Voxels
from r2n2_keras.errors import InputError

GRIDS = st_numpy.arrays(
    bool, st_numpy.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.booleans()
)
NUMBERS = st.floats(-1e6, 1e6, width=32)
CUBE = Voxels(np.ones((2, 2, 2), bool))


def _random(seed, shape, share=0.3):
    return np.random.default_rng(seed).random(shape) < share


def _assert_round_trip(grid):
    """Gives the file's runs as (value, count) pairs."""
    content = binvox.encode(Voxels(grid))
    np.testing.assert_array_equal(binvox.decode(content).data, grid)
    body = content.split(b"data\n", 1)[1]
    return list(zip(body[::2], body[1::2], strict=True))


@given(GRIDS, st.tuples(NUMBERS, NUMBERS, NUMBERS), NUMBERS, st.sampled_from(["xzy", "xyz"]))
def test_round_trip(grid, translate, scale, axis_order):
    content = binvox.encode(Voxels(grid, translate, scale), axis_order)
    again = binvox.decode(content, axis_order=axis_order)
    assert again.data.dtype == bool and again.dims == grid.shape
    np.testing.assert_array_equal(again.data, grid)
    expected = binvox_files.reference(content).data
    np.testing.assert_array_equal(
        expected if axis_order == "xzy" else expected.transpose(0, 2, 1), grid
    )
    assert again.translate == pytest.approx(translate, rel=1e-8)
    assert again.scale == pytest.approx(scale, rel=1e-8)
    assert binvox.check(content, axis_order=axis_order) == (grid.shape, grid.sum())


@pytest.mark.parametrize(("axis_order", "dims"), [("xzy", b"2 4 3"), ("xyz", b"2 3 4")])
def test_the_axes_of_a_file(tmp_path, axis_order, dims):
    """x, z, y by the format, and x, y, z where that is asked for."""
    grid = np.zeros((2, 3, 4), bool)
    grid[1, 2, 0] = True
    path = tmp_path / "model.binvox"
    binvox.write(path, Voxels(grid), axis_order=axis_order)
    header, body = path.read_bytes().split(b"data\n", 1)
    assert b"\ndim " + dims + b"\n" in header
    place = 1 * 4 * 3 + (0 * 3 + 2 if axis_order == "xzy" else 2 * 4 + 0)
    assert list(body) == [0, place, 1, 1, 0, 24 - place - 1]
    np.testing.assert_array_equal(binvox.read(path, axis_order=axis_order).data, grid)
    # Told otherwise, the same bytes are another grid.
    other = binvox.read(path, axis_order={"xzy": "xyz", "xyz": "xzy"}[axis_order])
    np.testing.assert_array_equal(other.data, grid.transpose(0, 2, 1))


@pytest.mark.parametrize("axis_order", ["zyx", "", None])
def test_other_axis_orders_are_told(axis_order):
    for function, *arguments in (
        (binvox.read, __file__),
        (binvox.decode, HEADER + RUNS),
        (binvox.check, HEADER + RUNS),
        (binvox.encode, CUBE),
        (binvox.write, "never", CUBE),
    ):
        with pytest.raises(InputError, match="Expected axis_order 'xzy' or 'xyz', received"):
            function(*arguments, axis_order=axis_order)


@pytest.mark.parametrize("length", [0, 1, 254, 255, 256, 509, 510, 511, 1020, 1100])
def test_runs_of_any_length(length):
    """Also those that fill one byte, or several, exactly; at the end of the file and within it."""
    for start in {0, min(7, 1100 - length), 1100 - length}:
        grid = np.zeros((11, 10, 10), bool)
        grid.transpose(0, 2, 1).flat[start : start + length] = True
        lengths = [(0, start), (1, length), (0, 1100 - start - length)]
        assert _assert_round_trip(grid) == [
            (value, min(255, whole - passed))
            for value, whole in (lengths if length else [(0, 1100)])
            for passed in range(0, whole, 255)
        ]


def test_long_grids_and_other_dtypes():
    _assert_round_trip(_random(7, (1_000_003, 1, 2), 0.001))
    grid = np.arange(8).reshape(2, 2, 2) % 3  # what is not 0 is occupied
    np.testing.assert_array_equal(binvox.decode(binvox.encode(Voxels(grid))).data, grid > 0)


# trimesh counts x, y, z in `dim` whatever the order of the cells, so that in "xzy" it reads grids
# of equal y and z only; and it has the grid's corners in the centres of the outermost cells.


@pytest.mark.parametrize(
    ("shape", "axis_order"),
    [((32, 32, 32), "xzy"), ((5, 8, 8), "xzy"), ((8, 8, 8), "xyz"), ((5, 8, 3), "xyz")],
)
def test_trimesh_reads_what_is_written_and_the_other_way_round(shape, axis_order):
    grid = _random(1, shape)
    content = binvox.encode(Voxels(grid, (0.5, -1, 2), 3.0), axis_order)
    if axis_order == "xzy":
        theirs = load_binvox(io.BytesIO(content))
    else:  # `load_binvox` hands its own shape on as an array, which "xyz" cannot take
        parsed = parse_binvox(io.BytesIO(content))
        parts = {**parsed._asdict(), "shape": tuple(parsed.shape), "axis_order": axis_order}
        theirs = voxel_from_binvox(**parts)
    np.testing.assert_array_equal(theirs.matrix, grid)
    np.testing.assert_allclose(theirs.translation, (0.5, -1, 2))
    np.testing.assert_allclose(theirs.scale * (np.array(shape) - 1), 3.0)
    if len(set(shape)) > 1:
        return  # they write cubes only
    content = export_binvox(VoxelGrid(grid, theirs.transform), axis_order=axis_order)
    voxels = binvox.decode(content, axis_order=axis_order)
    np.testing.assert_array_equal(voxels.data, grid)
    assert voxels.translate == pytest.approx((0.5, -1, 2)) and voxels.scale == pytest.approx(3)


def test_real_files(real_data):
    """As trimesh reads them; and they are centred, so that their lowest cells are at `translate`.

    The odd one has comments, blanks, and the header's lines in another order.
    """
    paths = sorted(real_data.glob("ShapeNetVox32/*/*/model.binvox"))
    assert paths
    odd = real_data / "odd" / "chair_model.binvox"
    for path in [*paths, odd]:
        ours = binvox.read(path)
        theirs = load_binvox(io.BytesIO(path.read_bytes()))
        assert ours.dims == (32, 32, 32) and 0.005 < ours.data.mean() < 0.5
        for data in (theirs.matrix, binvox.decode(binvox.encode(ours)).data):
            np.testing.assert_array_equal(ours.data, data)
        assert ours.translate == pytest.approx(theirs.translation)
        assert ours.scale == pytest.approx(theirs.scale * 31)
        if path == odd:
            assert ours.translate == (-0.265511, -0.331878, -0.263364) and ours.scale == 0.663756
            continue
        cells = np.argwhere(ours.data)
        points = ours.to_world(cells, centred=True)
        np.testing.assert_allclose(points, ((cells + 0.5) / 32 - 0.5) * ours.scale, atol=1e-12)
        edge = ours.scale / 32
        np.testing.assert_allclose(points.min(axis=0) - edge / 2, ours.translate, atol=edge)


# Headers and runs; `fuzz_test` has every line of the grammar.


def test_runs_of_no_cells_are_passed_over():
    """The original's `binvox_rw.py` writes one behind a run of 255 cells that ends there."""
    content = b"#binvox 1\ndim 1 1 300\ndata\n" + bytes([0, 255, 0, 0, 1, 45])
    assert binvox.decode(content).data.ravel().tolist() == [False] * 255 + [True] * 45
    assert binvox.check(content) == ((1, 300, 1), 45)


def test_the_header_has_room_for_comments():
    """Up to 64 KiB with the line `data`."""
    before, after = b"#binvox 1\ndim 2 2 2\n#", b"\ndata\n"
    room = binvox.MAX_HEADER - len(before) - len(after)
    assert binvox.decode(before + b"." * room + after + b"\1\x08").data.all()
    with pytest.raises(InputError, match="line 'data' after the header, received none in 65536"):
        binvox.decode(before + b"." * (room + 1) + after + b"\1\x08")


@pytest.mark.parametrize(("content", "words"), [*binvox_files.BAD, *binvox_files.GREEDY])
def test_what_is_no_whole_file_is_told(tmp_path, content, words):
    """In one line, and with no more memory than a little: not what the file claims or holds."""
    path = tmp_path / "model.binvox"
    path.write_bytes(content)
    messages = []
    for function, *arguments in (
        (binvox.read, path),
        (binvox.decode, content, str(path)),
        (binvox.check, content, str(path)),
    ):
        with peak_memory.of_python_below(300_000), pytest.raises(InputError, match=words) as caught:
            function(*arguments)
        messages.append(str(caught.value))
    assert messages[0].startswith(f"{path}: expected ") and len(messages[0].splitlines()) == 1
    assert len(messages[0]) < len(str(path)) + 400
    assert messages[1] == messages[2]
    # Of what holds far too much, not all was read.
    assert messages[0] == messages[1] or len(content) > 1_000_000


# Memory and time.


def test_checking_makes_no_grid():
    cells = 512**3
    full, rest = divmod(cells, 255)
    content = b"#binvox 1\ndim 512 512 512\ndata\n" + b"\1\xff" * full + bytes([1, rest])
    with peak_memory.of_python_below(cells // 50):
        assert binvox.check(content) == ((512, 512, 512), cells)


@pytest.mark.parametrize(
    "line",
    [
        b"translate " + b" ".join([b"1" * 15000] * 3) + b" x",
        b"translate " + b" ".join([b"0" * 150 + b"." + b"1" * 15000] * 3) + b" x",
        b"translate " + b" ".join([b"1e" + b"0" * 15000] * 3) + b" x",
        b"dim " + b" ".join([b"0" * 15000] * 3),
        b"scale" + b" \t" * 25000 + b"x",
        b"\n \n" * 15000,
        b"\ndata" * 10000,
        b"# data\n" * 8000,
    ],
    ids=lambda line: line[:12],
)
@pytest.mark.timeout(60)
def test_no_header_takes_long(line):
    """Each would take minutes, or not end, where the grammar can be matched in many ways."""
    refusal(binvox.decode, b"#binvox 1\n" + line + b"\ndata\n\1\x08")


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
    assert voxels.to_ijk((-1.01, 0.5, 11)).tolist() == [-1, 8, 16], "below 0, or dims and more"
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
    centres = voxels.to_world(cells, centred)
    assert centres.shape == cells.shape and centres.dtype == np.float64
    again = voxels.to_ijk(centres, centred)
    assert again.dtype == np.int64
    np.testing.assert_array_equal(again, cells)
    points = cells / 37
    holders = voxels.to_world(voxels.to_ijk(points, centred), centred)
    assert (np.abs(points - holders) <= voxels.scale / max(voxels.dims) / 2 + 1e-9).all()

    last = np.array(voxels.dims) - 1
    low, high = voxels.to_world([[-0.5] * 3, last + 0.5], centred)
    assert (high - low).max() == pytest.approx(voxels.scale)
    np.testing.assert_allclose(low, -high if centred else voxels.translate, atol=1e-9)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_grids_without_extent_have_no_positions(scale):
    voxels = Voxels(CUBE.data, scale=scale)
    for function in (voxels.to_world, voxels.to_ijk):
        assert f"scale above 0, received {scale:g}" in refusal(function, [0, 0, 0])


def test_what_is_no_position_is_told():
    voxels = Voxels(CUBE.data, scale=1e-3)
    for function in (voxels.to_world, voxels.to_ijk):
        for values in (5, [1, 2], [[1, 2, 3, 4]]):
            assert "of shape (..., 3), received shape" in refusal(function, values)
        assert function(np.zeros((0, 3))).shape == (0, 3)
    for number in (math.nan, math.inf, -1e15, 1.7e308):
        assert "finite points within 2^53 cells" in refusal(voxels.to_ijk, [0, 0, number])


# Files.


@pytest.mark.parametrize("name", ["nobody.binvox", "."])
def test_a_file_that_cannot_be_opened_is_told(tmp_path, name):
    words = (
        r"^Expected a binvox file, received .*, which cannot be read \(\w.+\)\. Check the path\.$"
    )
    with pytest.raises(InputError, match=words):
        binvox.read(tmp_path / name)


GRID = f"grid of 3 axes [x, y, z], none of them empty, and at most {2**30} cells"


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        *[
            (Voxels(np.broadcast_to(True, shape)), f"{GRID}, received shape {shape}")
            for shape in ((4, 4), (2, 2, 2, 2), (0, 4, 4), (1025, 1024, 1024))
        ],
        *[
            (Voxels(CUBE.data, *place), "3 finite numbers for translate and 1 for scale")
            for place in [((0, 0),), ((0, 0, math.nan),), ((0, math.inf, 0),), ((0, 0, 0), 1e100)]
        ],
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, voxels, words):
    path = tmp_path / "model.binvox"
    path.write_bytes(b"old")
    assert words in refusal(binvox.write, path, voxels)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_writing_replaces_the_whole_file(tmp_path, monkeypatch):
    """A file of more than the header's 64 KiB; a crash leaves the old one, and nothing beside."""
    path = tmp_path / "model.binvox"
    path.write_bytes(b"old")
    voxels = Voxels(_random(6, (64, 64, 64), 0.5), (-0.25, 0.5, 1.5), 0.75)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.replace", mock.Mock(side_effect=KeyboardInterrupt))
        binvox.write(path, voxels)
    assert path.read_bytes() == b"old"
    binvox.write(str(path), voxels)
    content = path.read_bytes()
    assert len(content) > binvox.MAX_HEADER and list(tmp_path.iterdir()) == [path]
    binvox.write(path, binvox.read(path))
    assert path.read_bytes() == content == binvox.encode(voxels)
