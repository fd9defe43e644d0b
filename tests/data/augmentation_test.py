"""Augmentation and the original's other ways: each part against NumPy, and the seed decides all."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from pictures import composited, encoded, random_pixels

from r2n2_keras.config import Config
from r2n2_keras.data import augmentation as augmentation_lib
from r2n2_keras.data import images
from r2n2_keras.data.augmentation import Augmentation
from r2n2_keras.data.images import Transform
from r2n2_keras.model.image_spec import ImageSpec

ALL = Augmentation(True, True, (0, 255), 0.4)
AUGMENTATIONS = [
    Augmentation(),
    Augmentation(random_crop=True),
    Augmentation(random_flip=True),
    Augmentation(random_background=(0, 255)),
    Augmentation(color_jitter=0.3),
    ALL,
]


def _spec(image_size=127, **settings):
    return ImageSpec(image_size, **{"channels": 3, "background": 240, **settings})


def _transforms(augmentation, count=200, seed=5):
    draws = augmentation.draw(tf.constant([seed, 7], tf.int64), [count])
    transforms = augmentation.transforms(draws)
    return [transforms.of(view) for view in range(count)]


# Cropping.


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(
    ("height", "width", "cropped"),
    [(137, 137, True), (127, 127, True), (130, 135, True), (138, 127, False), (126, 137, False)],
)
def test_evaluation_crops_the_centre_of_what_is_slightly_larger(height, width, cropped, channels):
    rgba = random_pixels(height, width, 4)
    top, left = (height - 127) // 2, (width - 127) // 2
    expected = rgba[max(top, 0) :, max(left, 0) :][:127, :127]
    expected = composited(expected, 240) if channels == 3 else expected / 255
    image = images.to_view(rgba, _spec(channels=channels)).numpy()
    same = expected.shape == image.shape and np.abs(image - expected).max() < 1e-6
    assert same == cropped


def test_random_crops_come_from_everywhere():
    coordinates = np.stack(np.meshgrid(np.arange(137), np.arange(137), indexing="ij"), axis=-1)
    rgba = np.dstack([coordinates, np.full((137, 137, 2), 255)]).astype(np.uint8)
    corners = []
    for transform in _transforms(Augmentation(random_crop=True)):
        image = images.to_view(rgba, _spec(), transform).numpy()
        top, left = np.rint(image[0, 0, :2] * 255).astype(int)
        np.testing.assert_allclose(image, rgba[top:, left:][:127, :127, :3] / 255, atol=1e-6)
        corners.append((top, left))
    assert {top for top, _ in corners} == {left for _, left in corners} == set(range(11))
    assert len(set(corners)) > 80, "down and right are drawn apart: 98 of 121 are expected"


def test_a_picture_that_is_scaled_is_not_cropped():
    rgba = random_pixels(137, 137, 4)
    transform = Transform(crop=tf.constant([0.9, 0.9]))
    np.testing.assert_array_equal(
        images.to_view(rgba, _spec(64), transform), images.to_view(rgba, _spec(64))
    )


# Mirroring.


def test_every_other_picture_is_mirrored():
    rgba = random_pixels(20, 20, 4)
    plain = images.to_view(rgba, _spec(20)).numpy()
    mirrored = 0
    for transform in _transforms(Augmentation(random_flip=True)):
        image = images.to_view(rgba, _spec(20), transform).numpy()
        if not np.array_equal(image, plain):
            np.testing.assert_array_equal(image, plain[:, ::-1])
            mirrored += 1
    assert 75 < mirrored < 125


# Colours.


def test_random_backgrounds_are_levels_of_the_range():
    clear = np.zeros((8, 8, 4), np.uint8)
    levels = []
    for transform in _transforms(Augmentation(random_background=(225, 255)), 400):
        image = images.to_view(clear, _spec(8), transform).numpy() * 255
        assert np.ptp(image, axis=(0, 1)).max() == 0
        levels.append(image[0, 0])
    levels = np.array(levels)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    for channel in np.rint(levels).astype(int).T:
        assert set(channel) == set(range(225, 256))
    assert abs(np.corrcoef(levels.T)[0, 1]) < 0.2, "channels are drawn apart"


def _jittered(rgb, brightness, contrast, saturation):
    """Colours in [0, 1], step by step: towards grey, away from mid-grey, lighter."""
    grey = (rgb * [0.299, 0.587, 0.114]).sum(axis=-1, keepdims=True)
    rgb = saturation * rgb + (1 - saturation) * grey
    return brightness * contrast * rgb + 0.5 * (1 - contrast)


@given(st.integers(0, 10_000), st.floats(0.01, 0.99), st.sampled_from([(), (0, 255)]))
def test_jitter_and_background_are_those_of_numpy(seed, strength, levels):
    """The jitter is of the object alone: the background has its colour, or the one drawn."""
    rgba = random_pixels(6, 6, 4, seed=seed)
    rgba[0, :, 3] = 0
    augmentation = Augmentation(random_background=levels, color_jitter=strength)
    draws = augmentation.draw(tf.constant([seed, 0], tf.int64), [1])
    transform = augmentation.transforms(draws[0])
    image = images.to_view(rgba, _spec(6), transform)
    factors = 1 + strength * (2 * draws[0, 6:].numpy().astype(float) - 1)
    colour, alpha = rgba[..., :3] / 255, rgba[..., 3:] / 255
    background = (transform.background.numpy() if levels else 240) / 255
    expected = _jittered(colour, *factors) * alpha + background * (1 - alpha)
    np.testing.assert_allclose(image, np.clip(expected, 0, 1), atol=2e-6)


def test_raw_rgba_keeps_its_colours():
    rgba = random_pixels(8, 8, 4)
    for transform in _transforms(Augmentation(random_background=(0, 255), color_jitter=0.5), 5):
        np.testing.assert_allclose(
            images.to_view(rgba, _spec(8, channels=4), transform), rgba / 255
        )


@pytest.mark.parametrize("levels", [(), (225, 255)])
def test_the_original_step_by_step(levels):
    """Its `data_augmentation.py` in NumPy, with this package's draws.

    It shows the bare colour of every pixel but clear ones.
    """
    rgba = random_pixels(137, 137, 4)
    rgba[:60, :, 3], rgba[60:70, :, 3] = 0, 1
    seen_flips = set()
    for transform in _transforms(Augmentation(True, True, levels), 20):
        background = transform.background if levels else 240
        picture = np.where(rgba[..., 3:] == 0, background, rgba[..., :3])
        top, left = (int(place * 11) for place in transform.crop)
        picture = picture[top : top + 127, left : left + 127]
        picture = picture[:, ::-1] if transform.mirrored else picture
        seen_flips.add(bool(transform.mirrored))
        image = images.to_view(rgba, _spec(alpha="threshold"), transform)
        np.testing.assert_allclose(image, picture / 255, atol=1e-6)
    assert seen_flips == {True, False}


# Draws.


@pytest.mark.parametrize("image_size", [127, 64])
def test_the_seed_decides_everything(image_size):
    rgba, spec = random_pixels(137, 137, 4), _spec(image_size)
    first, again, other = (
        [images.to_view(rgba, spec, transform) for transform in _transforms(ALL, 3, seed)]
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert (np.abs(np.subtract(first, other)).max(axis=(1, 2, 3)) > 0.05).all()


def test_nothing_is_drawn_where_nothing_varies():
    assert Augmentation().draw(tf.constant([0, 0], tf.int64), [3]) is None
    assert Augmentation().transforms(None) == Transform()


def test_what_is_drawn_is_what_runs_of_before_drew():
    expected = [0.12039495, 0.12778854, 0.6554501, 0.6188631, 0.2680924, 0.5160766, 0.761998415]
    expected += [0.14647973, 0.43858135]
    for augmentation in AUGMENTATIONS[1:]:
        draws = augmentation.draw(tf.constant([5, 7], tf.int64), [2])
        np.testing.assert_allclose(draws[0], expected, rtol=1e-7)


def test_one_more_augmentation_changes_no_other_draw(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class More(Augmentation):
        darken: float = 0.0

    part = augmentation_lib._Part(slice(9, 10), lambda transform, *_: transform)
    monkeypatch.setitem(augmentation_lib._PARTS, "darken", part)
    seed = tf.constant([5, 7], tf.int64)
    before, after = (More(True, True, (0, 255), 0.4, more).draw(seed, [200]) for more in (0, 0.5))
    np.testing.assert_array_equal(after[:, :9], before)
    # Its numbers are no others' again.
    assert np.abs(np.corrcoef(np.transpose(after))[9, :9]).max() < 0.3
    columns = [part.columns for part in augmentation_lib._PARTS.values()]
    read = [number for part in columns for number in range(part.start, part.stop)]
    assert len(set(read)) == len(read)


def test_settings_of_the_same_names_make_an_augmentation():
    settings = {"random_flip": True, "random_background": (225, 255), "color_jitter": 0.2}
    assert Augmentation.of(Config(**settings)) == Augmentation(**settings)
    assert set(augmentation_lib._PARTS) == {each.name for each in dataclasses.fields(Augmentation)}


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=str)
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(
    "sizes",
    [[(137, 137)] * 3, [(127, 127), (130, 137), (128, 129)], [(137, 137), (60, 90), (200, 127)]],
    ids=["all the same", "all cropped", "some scaled"],
)
def test_several_at_once_are_each_on_its_own(augmentation, channels, sizes):
    contents = [encoded(random_pixels(*size, 4, seed=number)) for number, size in enumerate(sizes)]
    transforms = augmentation.transforms(augmentation.draw(tf.constant([2, 1], tf.int64), [3]))
    spec = _spec(channels=channels)
    together = tf.function(
        lambda: images.decode_renderings(tf.constant(contents), 3, spec, transforms)
    )()
    for number, content in enumerate(contents):
        expected = images.to_view(images.decode_png(content), spec, transforms.of(number))
        np.testing.assert_allclose(together[number], expected, atol=1e-6)
