"""Binvox files: round trips, trimesh and the specification as oracles, errors, whole files."""

import io

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from trimesh.exchange.binvox import export_binvox, load_binvox

from r2n2_keras.data import binvox
from r2n2_keras.data.binvox import Voxels
from r2n2_keras.errors import InputError

GRIDS = st_numpy.arrays(
    bool, st_numpy.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.booleans()
)
NUMBERS = st.floats(-1e6, 1e6, width=32)
HEADER = b"#binvox 1\ndim 2 2 2\ntranslate 0 0 0\nscale 1\ndata\n"


def _naive_decode(content):
    """[x, y, z] cell by cell, by the index formula of the specification."""
    header, body = content.split(b"\ndata\n", 1)
    (dims,) = [line.split()[1:] for line in header.split(b"\n") if line.startswith(b"dim")]
    depth, height, width = (int(word) for word in dims)
    flat = [value for value, count in zip(body[::2], body[1::2], strict=True) for _ in range(count)]
    grid = np.zeros((depth, width, height), bool)
    for x, y, z in np.ndindex(grid.shape):
        grid[x, y, z] = flat[x * width * height + z * width + y]
    return grid


def _random(seed, shape, share=0.3):
    return np.random.default_rng(seed).random(shape) < share


@given(GRIDS, st.tuples(NUMBERS, NUMBERS, NUMBERS), NUMBERS)
def test_round_trip(grid, translate, scale):
    content = binvox.encode(Voxels(grid, translate, scale))
    again = binvox.decode(content)
    assert again.data.dtype == bool and again.dims == grid.shape
    np.testing.assert_array_equal(again.data, grid)
    np.testing.assert_array_equal(_naive_decode(content), grid)
    assert again.translate == pytest.approx(translate, rel=1e-8)
    assert again.scale == pytest.approx(scale, rel=1e-8)


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


@pytest.mark.parametrize("shape", [(8, 8, 8), (32, 32, 32), (5, 8, 8)])
def test_trimesh_reads_what_is_written(shape):
    grid = _random(1, shape)
    content = binvox.encode(Voxels(grid, (0.5, -1, 2), 3.0))
    voxels = load_binvox(io.BytesIO(content))
    np.testing.assert_array_equal(voxels.matrix, grid)
    np.testing.assert_allclose(voxels.translation, (0.5, -1, 2))
    np.testing.assert_allclose(voxels.scale * (np.array(shape) - 1), 3.0)


@pytest.mark.parametrize("seed", range(3))
def test_what_trimesh_writes_is_read(seed):
    grid = _random(seed, (32, 32, 32), [0.01, 0.3, 0.9][seed])
    transform = trimesh.transformations.scale_and_translate(2.0 / 31, (0.5, -1, 2))
    content = export_binvox(trimesh.voxel.VoxelGrid(grid, transform))
    assert b"# generated" in content
    voxels = binvox.decode(content)
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


def test_the_body_may_hold_the_word_data():
    """Runs are bytes like any others: 10 'd', 116 'a' and so on may be among them."""
    runs = b"\ndata\n"  # (10, 100) (97, 116) (97, 10): 226 cells
    voxels = binvox.decode(b"#binvox 1\ndim 1 1 226\ndata\n" + runs)
    assert voxels.dims == (1, 226, 1) and voxels.data.all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"begins with '#binvox 1', received b'' \(0 bytes\)"),
        (b"\x89PNG\r\n\x1a\n", r"begins with '#binvox 1', received b'\\x89PNG"),
        (b"#binvox 2\ndim 2 2 2\ndata\n\1\x08", "received b'#binvox 2"),
        (b"#binvox 12\ndim 2 2 2\ndata\n\1\x08", "received b'#binvox 12'"),
        (b"#binvox 1", "a line 'data' after the header, received none"),
        (b"#binvox 1\ndim 2 2 2\n\1\x08", "a line 'data' after the header, received none"),
        (b"#binvox 1\ndata\n\1\x08", "dim X Z Y' of at most 1073741824 cells, received 'dim '"),
        (b"#binvox 1\ndim 2 2\ndata\n\1\4", "received 'dim 2 2'"),
        (b"#binvox 1\ndim 2 2 2 2\ndata\n\1\x10", "received 'dim 2 2 2 2'"),
        (b"#binvox 1\ndim 2 -2 2\ndata\n\1\x08", "received 'dim 2 -2 2'"),
        (b"#binvox 1\ndim 2 0 2\ndata\n", "received 'dim 2 0 2'"),
        (b"#binvox 1\ndim 2 two 2\ndata\n\1\x08", "received 'dim 2 two 2'"),
        (b"#binvox 1\ndim 99999 99999 9\ndata\n\1\x08", "received 'dim 99999 99999 9'"),
        (b"#binvox 1\ndim 2 2 2\nscale\ndata\n\1\x08", "1 numbers after 'scale', received ''"),
        (b"#binvox 1\ndim 2 2 2\nscale nan\ndata\n\1\x08", "after 'scale', received 'nan'"),
        (b"#binvox 1\ndim 2 2 2\ntranslate 0 0\ndata\n\1\x08", "after 'translate', received '0 0'"),
        (b"#binvox 1\ndim 2 2 2\ntranslate a b c\ndata\n\1\x08", "received 'a b c'"),
        (HEADER, "fill 2x2x2 cells, received 0 bytes for 0 cells"),
        (HEADER + b"\1\4", "fill 2x2x2 cells, received 2 bytes for 4 cells"),
        (HEADER + b"\1\4\0\5", "received 4 bytes for 9 cells"),
        (HEADER + b"\1\4\0", "received 3 bytes for 4 cells"),
        (HEADER + b"\1\x08\0", "received 3 bytes for 8 cells"),
    ],
)
def test_what_is_no_whole_file_is_told(tmp_path, content, words):
    path = tmp_path / "model.binvox"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        binvox.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected ") and "\n" not in message


def test_every_cut_of_a_file_is_told():
    content = binvox.encode(Voxels(_random(4, (4, 4, 4))))
    for size in range(len(content)):
        with pytest.raises(InputError):
            binvox.decode(content[:size])


@pytest.mark.parametrize("name", ["nobody.binvox", "."])
def test_a_file_that_cannot_be_opened_is_told(tmp_path, name):
    with pytest.raises(InputError, match=r"Expected a binvox file, received .*: \w+") as caught:
        binvox.read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(4, 4), (2, 2, 2, 2), (0, 4, 4)])
def test_what_is_no_grid_is_not_written(tmp_path, shape):
    path = tmp_path / "model.binvox"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match="grid of 3 axes") as caught:
        binvox.write(path, Voxels(np.ones(shape, bool)))
    assert str(shape) in str(caught.value)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


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
