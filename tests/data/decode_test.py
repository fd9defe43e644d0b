"""Decoding in the graph: against NumPy, eager and inside tf.data, every format, every damage."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image

from r2n2_keras.data import binvox, binvox_graph, images
from r2n2_keras.data.binvox import Voxels
from r2n2_keras.errors import InputError
from r2n2_keras.model.image_spec import ImageSpec
from r2n2_keras.shapes.camera import Camera

PY_FUNCTIONS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def _spec(image_size, channels=3, background=255, **settings):
    return ImageSpec(image_size, channels, background, **settings)


def _rendering(content, spec):
    """A rendering as training decodes it."""
    return images.renderings(tf.convert_to_tensor(content)[None], 1, spec)[0]


def _encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def _pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _composited(rgba, background):
    """float64 (H, W, 3): the definition of alpha compositing."""
    colour, alpha = rgba[..., :3] / 255, rgba[..., 3:] / 255
    return colour * alpha + background / 255 * (1 - alpha)


def _in_dataset(function, *contents):
    """What the function makes of each content, inside tf.data."""
    return [
        result.numpy()
        for result in tf.data.Dataset.from_tensor_slices(list(contents)).map(function)
    ]


# Pictures.


@pytest.mark.parametrize("decoder", [_rendering, images.picture])
@pytest.mark.parametrize("background", [0, 128, 255])
def test_three_channels_composite_on_the_background(decoder, background):
    rgba = _pixels(16, 16, 4)
    rgba[:4, :, 3], rgba[4:8, :, 3] = 0, 255
    image = decoder(_encoded(rgba), _spec(16, 3, background))
    assert image.dtype == tf.float32 and image.shape == (16, 16, 3)
    np.testing.assert_allclose(image, _composited(rgba, background), atol=1e-6)


@pytest.mark.parametrize("size", [16, 11, 30])
def test_colours_under_transparent_pixels_never_show(size):
    """Also where the picture is resized, so that neighbours mix."""
    clean, dirty = _pixels(16, 16, 4), _pixels(16, 16, 4)
    clean[:, 8:] = 0
    dirty[:, 8:, 3] = 0
    assert (clean != dirty).any()
    for decoder in (_rendering, images.picture):
        np.testing.assert_array_equal(
            decoder(_encoded(clean), _spec(size, 3, 255)),
            decoder(_encoded(dirty), _spec(size, 3, 255)),
        )


@pytest.mark.parametrize("decoder", [_rendering, images.picture])
def test_four_channels_keep_raw_rgba(decoder):
    rgba = _pixels(16, 16, 4)
    rgba[:8, :, 3] = 0
    image = decoder(_encoded(rgba), _spec(16, 4, 255))
    np.testing.assert_array_equal(image, rgba.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("decoder", [_rendering, images.picture])
def test_eager_and_in_a_dataset_are_the_same(decoder, channels):
    contents = [_encoded(_pixels(*shape, 4)) for shape in ((20, 20), (13, 31), (64, 50))]

    def decoded(content):
        return decoder(content, _spec(20, channels, 200))

    for content, image in zip(contents, _in_dataset(decoded, *contents), strict=True):
        assert image.shape == (20, 20, channels)
        np.testing.assert_array_equal(image, decoded(content))


def test_grey_rgb_and_their_alpha():
    grey, alpha = _pixels(12, 12), _pixels(12, 12, seed=1)
    rgb = _pixels(12, 12, 3, seed=2)
    opaque = np.full((12, 12, 1), 255, np.uint8)
    grey_rgb = np.stack([grey] * 3, axis=-1)
    for content, rgba in (
        (_encoded(grey), np.concatenate([grey_rgb, opaque], axis=-1)),
        (_encoded(np.stack([grey, alpha], axis=-1)), np.dstack([grey_rgb, alpha])),
        (_encoded(rgb), np.concatenate([rgb, opaque], axis=-1)),
        (_encoded(np.dstack([rgb, alpha])), np.dstack([rgb, alpha])),
    ):
        image = images.picture(content, _spec(12, 3, 77))
        np.testing.assert_allclose(image, _composited(rgba, 77), atol=1e-6)
        np.testing.assert_array_equal(
            images.picture(content, _spec(12, 4, 77)), rgba.astype(np.float32) / np.float32(255)
        )


def test_sixteen_bits_and_palettes():
    deep = np.random.default_rng(0).integers(0, 2**16, (12, 12), dtype=np.uint16)
    image = images.picture(_encoded(deep), _spec(12, 3, 255))
    np.testing.assert_allclose(image, np.stack([deep / 65535] * 3, axis=-1), atol=1 / 255)

    palette = Image.fromarray(_pixels(12, 12, 3)).quantize(16)
    file = io.BytesIO()
    palette.save(file, "PNG", transparency=0)
    rgba = np.asarray(Image.open(file).convert("RGBA"))
    assert 0 < (rgba[..., 3] == 0).sum() < 144
    image = images.picture(file.getvalue(), _spec(12, 3, 255))
    np.testing.assert_allclose(image, _composited(rgba, 255), atol=1e-6)


def test_jpeg_bmp_and_gif():
    smooth = np.stack(np.meshgrid(np.arange(0, 240, 10), np.arange(0, 240, 10)), axis=-1)
    rgb = np.dstack([smooth, smooth[..., :1]]).astype(np.uint8)
    image = images.picture(_encoded(rgb, "BMP"), _spec(24, 3, 255))
    np.testing.assert_allclose(image, rgb / 255, atol=1e-6)
    content = _encoded(rgb, "JPEG", quality=95, subsampling=0)
    np.testing.assert_allclose(images.picture(content, _spec(24, 3, 255)), rgb / 255, atol=0.03)
    grey = _encoded(rgb[..., 0], "JPEG", quality=95)
    image = images.picture(grey, _spec(24, 3, 255))
    np.testing.assert_allclose(image, rgb[..., [0, 0, 0]] / 255, atol=0.03)

    frames = [Image.fromarray(np.full((24, 24, 3), level, np.uint8)) for level in (50, 200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    image = images.picture(file.getvalue(), _spec(24, 3, 255))
    np.testing.assert_allclose(image, np.full((24, 24, 3), 50 / 255), atol=0.01)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("decoder", [_rendering, images.picture])
def test_what_is_no_picture_is_an_error(decoder, content):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoder(content, _spec(16, 3, 255))
    with pytest.raises(tf.errors.InvalidArgumentError):
        _in_dataset(lambda content: decoder(content, _spec(16, 3, 255)), content)


@pytest.mark.parametrize("decoder", [_rendering, images.picture])
def test_a_truncated_png_is_an_error(decoder):
    content = _encoded(_pixels(137, 137, 4))
    for size in (len(content) // 3, len(content) * 9 // 10, len(content) - 1):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoder(content[:size], _spec(127, 3, 255))


@pytest.mark.parametrize(("height", "width"), [(20, 8), (8, 20), (20, 7)])
@pytest.mark.parametrize("channels", [3, 4])
def test_pictures_that_are_not_square_stand_in_the_middle(height, width, channels):
    rgba = _pixels(height, width, 4)
    image = images.view(rgba, _spec(20, channels, 99)).numpy()
    beside = 99 / 255 if channels == 3 else 0.0
    expected = np.full((20, 20, channels), beside)
    top, left = (20 - height) // 2, (20 - width) // 2
    pixels = _composited(rgba, 99) if channels == 3 else rgba / 255
    expected[top : top + height, left : left + width] = pixels
    np.testing.assert_allclose(image, expected, atol=1e-6)


def test_frames_of_the_right_size_are_untouched_and_others_keep_their_mean():
    rgba = _pixels(40, 40, 4)
    rgba[..., 3] = 255
    np.testing.assert_allclose(images.view(rgba, _spec(40, 3, 0)), rgba[..., :3] / 255, rtol=1e-6)
    smaller = images.view(rgba, _spec(10, 3, 0)).numpy()
    assert smaller.mean() == pytest.approx(rgba[..., :3].mean() / 255, abs=0.01)
    # Antialiased: averages of noise vary less than the noise.
    assert smaller.std() < 0.5 * (rgba[..., :3] / 255).std()
    larger = images.view(np.full((10, 10, 4), 255, np.uint8), _spec(33, 3, 0))
    np.testing.assert_allclose(larger, np.ones((33, 33, 3)), atol=1e-6)


def test_real_photos_without_alpha(real_data):
    paths = sorted((real_data / "photos").glob("*.png"))
    assert paths
    for path in paths:
        with Image.open(path) as picture:
            expected = np.asarray(picture.convert("RGB")) / 255
        height, width, _ = expected.shape
        image = images.picture(
            tf.io.read_file(str(path)), _spec(max(height, width), 3, 255)
        ).numpy()
        top, left = (max(height, width) - height) // 2, (max(height, width) - width) // 2
        inner = image[top : top + height, left : left + width]
        np.testing.assert_allclose(inner, expected, atol=1e-6)


# Voxels.

GRIDS = st_numpy.arrays(
    bool, st.integers(1, 8).map(lambda edge: (edge,) * 3), elements=st.booleans()
).filter(np.any)


@given(GRIDS)
def test_the_graph_reads_grids_as_numpy_does(grid):
    decoded = binvox_graph.decode(binvox.encode(Voxels(grid)), grid.shape[0])
    assert decoded.dtype == tf.float32
    np.testing.assert_array_equal(decoded, grid)


@pytest.mark.parametrize("share", [0.00005, 0.01, 0.5, 1.0])
def test_grids_of_the_networks_size_eager_and_in_a_dataset(share):
    grids = np.random.default_rng(0).random((3, 32, 32, 32)) < share
    grids[:, 3, 1, 2] = True
    contents = [binvox.encode(Voxels(grid, (0.1, 0.2, 0.3), 0.9)) for grid in grids]
    decoded = _in_dataset(lambda content: binvox_graph.decode(content, 32), *contents)
    np.testing.assert_array_equal(decoded, grids)
    for content, grid in zip(contents, grids, strict=True):
        np.testing.assert_array_equal(binvox_graph.decode(content, 32), grid)


def test_real_files_are_read_as_numpy_does(real_data):
    paths = sorted(real_data.glob("ShapeNetVox32/*/*/model.binvox"))
    paths.append(real_data / "odd" / "chair_model.binvox")
    assert len(paths) > 1
    contents = [path.read_bytes() for path in paths]
    decoded = _in_dataset(lambda content: binvox_graph.decode(content, 32), *contents)
    for path, voxels in zip(paths, decoded, strict=True):
        np.testing.assert_array_equal(voxels, binvox.read(path).data, err_msg=str(path))


SOUND = binvox.encode(Voxels(np.arange(64).reshape(4, 4, 4) % 3 == 0))
DIM = b"dim 4 4 4\n"


@pytest.mark.parametrize(
    "change",
    [
        (DIM, b"# a comment\n" + DIM),
        (DIM, b"dim 4 4 4 # cells\n"),
        (DIM, b"  dim\t4  4 4  \n"),
        (DIM, b"dim 4 4 4\r\n"),
        (DIM, b"# gr\xf6\xdfe\ndim 4 4 4 # \xff\xfe\n"),
        (DIM, b"#dim 5 5 5\n" + DIM),
        (b"data\n", b"# data\ndata\n"),
        (b"scale 1\n", b""),
        (b"translate 0 0 0\n", b""),
    ],
)
def test_headers_that_both_readers_take(change):
    content = SOUND.replace(*change, 1)
    assert content != SOUND
    expected = binvox.decode(content).data
    np.testing.assert_array_equal(binvox_graph.decode(content, 4), expected)
    np.testing.assert_array_equal(expected, binvox.decode(SOUND).data)


BROKEN = {
    "nothing": b"",
    "only the magic": b"#binvox 1",
    "another magic": SOUND.replace(b"#binvox 1", b"#binvox 2"),
    "a longer magic": SOUND.replace(b"#binvox 1", b"#binvox 12"),
    "a blank after the magic": SOUND.replace(b"#binvox 1\n", b"#binvox 1 \n"),
    "not a binvox file": b"\x89PNG\r\n\x1a\n\ndata\n\0\1",
    "no line data": SOUND.replace(b"\ndata\n", b"\n"),
    "no dimensions": SOUND.replace(DIM, b""),
    "dimensions in a comment": SOUND.replace(DIM, b"#" + DIM),
    "two dimensions": SOUND.replace(DIM, b"dim 4 4\n"),
    "four dimensions": SOUND.replace(DIM, b"dim 4 4 4 4\n"),
    "words for dimensions": SOUND.replace(DIM, b"dim a b c\n"),
    "no runs": SOUND[: SOUND.index(b"\ndata\n") + 6],
    "truncated runs": SOUND[:-2],
    "half a run less": SOUND[:-1],
    "half a run more": SOUND + b"\1",
    "a run too many": SOUND + b"\1\1",
}
MISFITS = {
    "another size": binvox.encode(Voxels(np.ones((5, 5, 5), bool))),
    "not a cube": binvox.encode(Voxels(np.ones((4, 4, 5), bool))),
    "nothing occupied": binvox.encode(Voxels(np.zeros((4, 4, 4), bool))),
    "occupied runs of no length": SOUND[: SOUND.index(b"\ndata\n") + 6] + b"\1\0\0\x40",
}


@pytest.mark.parametrize("damage", [*BROKEN, *MISFITS])
def test_files_that_do_not_fit_are_errors(damage):
    content = {**BROKEN, **MISFITS}[damage]
    with pytest.raises(tf.errors.InvalidArgumentError, match="binvox: "):
        binvox_graph.decode(content, 4)
    with pytest.raises(tf.errors.InvalidArgumentError):
        _in_dataset(lambda content: binvox_graph.decode(content, 4), content)
    # What stops the pipeline must be something that the NumPy reader can explain.
    if damage in BROKEN:
        with pytest.raises(InputError):
            binvox.decode(content)
    else:
        data = binvox.decode(content).data
        assert data.shape != (4, 4, 4) or not data.any()


def test_every_cut_of_a_file_is_an_error():
    stream = tf.data.Dataset.range(len(SOUND)).map(
        lambda size: binvox_graph.decode(tf.strings.substr(SOUND, 0, tf.cast(size, tf.int32)), 4)
    )
    assert not list(stream.ignore_errors())


@pytest.mark.parametrize(
    ("decoder", "argument"),
    [(_rendering, _spec(16)), (images.picture, _spec(16)), (binvox_graph.decode, 4)],
)
def test_no_python_runs_in_the_graph(decoder, argument):
    function = tf.function(lambda content: decoder(content, argument))
    graph = function.get_concrete_function(tf.TensorSpec((), tf.string)).graph.as_graph_def()
    kinds = {node.op for node in graph.node}
    kinds |= {node.op for inner in graph.library.function for node in inner.node_def}
    assert len(kinds) > 5 and not kinds & PY_FUNCTIONS


# Voxels and renderings show the same object the same way around.


def _silhouette_iou(points, scale, camera, alpha):
    """IoU of the pixels that cells cover (cells as a few points each) with an alpha channel."""
    steps = np.stack(np.meshgrid(*[[-0.5, 0, 0.5]] * 3), axis=-1).reshape(-1, 3) / 32 * scale
    pixels = camera.project((points[:, None] + steps).reshape(-1, 3)).astype(int)
    pixels = pixels[(pixels >= 0).all(axis=1) & (pixels < 137).all(axis=1)]
    seen = np.zeros((137, 137), bool)
    seen[pixels[:, 1], pixels[:, 0]] = True
    return (seen & alpha).sum() / (seen | alpha).sum()


def _silhouette_ious(root, views):
    """IoUs of all models under `root`: with the axes as they are, and with y and z swapped."""
    right, swapped = [], []
    files = sorted(root.glob("ShapeNetVox32/*/*/model.binvox"))
    assert files
    for file in files:
        voxels = binvox_graph.decode(tf.io.read_file(str(file)), 32).numpy()
        scale = binvox.read(file).scale
        points = ((np.argwhere(voxels) + 0.5) / 32 - 0.5) * scale
        folder = root / "ShapeNetRendering" / file.parts[-3] / file.parts[-2] / "rendering"
        lines = (folder / "rendering_metadata.txt").read_text().splitlines()
        for view in views:
            azimuth, elevation, _, distance, _ = map(float, lines[view].split())
            camera = Camera(azimuth, elevation, distance)
            content = tf.io.read_file(str(folder / f"{view:02d}.png"))
            alpha = images.png(content).numpy()[..., 3] > 0
            right.append(_silhouette_iou(points, scale, camera, alpha))
            swapped.append(_silhouette_iou(points[:, [0, 2, 1]], scale, camera, alpha))
    return np.array(right), np.array(swapped)


def test_axes_of_the_synthesised_set(tree):
    right, swapped = _silhouette_ious(tree, (0, 4))
    assert right.min() > 0.6 and right.mean() > 0.8
    assert right.mean() > swapped.mean() + 0.25 and (right > swapped).mean() > 0.95


def test_axes_of_real_files(real_data):
    right, swapped = _silhouette_ious(real_data, (0, 11, 20))
    assert right.min() > 0.5
    assert right.mean() > swapped.mean() + 0.2
