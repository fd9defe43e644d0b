"""The exported model's signatures, beside what the model itself answers."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from r2n2_keras.data import photos
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.serving import signatures


def _png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures():
    """Five PNG files of each of two objects: colours, sizes, transparency of every kind."""
    rng = np.random.default_rng(0)
    channels = (4, 3, 2, 4, 4)
    return [
        [
            _png(rng.integers(0, 256, (60 + 9 * t, 80, count), np.uint8))
            for t, count in enumerate(channels)
        ]
        for _ in range(2)
    ]


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(exported.version).signatures


def _predicted(model, pictures):
    """What the model makes of the views of one object."""
    named = [("a picture", picture) for picture in pictures]
    views = photos.read_views(named, model.image_spec)
    return model.predict(views[None], verbose=0)[0]


def _check_occupancy(received, expected):
    assert received.dtype == tf.float32
    np.testing.assert_allclose(received, expected, atol=1e-5)
    assert np.ptp(received) > 1e-3  # an answer, not a constant


def _check_voxels(packed, occupancy, threshold):
    packed = np.stack([np.frombuffer(bits, np.uint8) for bits in packed.numpy()])
    voxels = np.unpackbits(packed, axis=-1).reshape(occupancy.shape).astype(bool)
    is_clear = np.abs(occupancy - threshold) > 1e-5
    assert is_clear.mean() > 0.9
    np.testing.assert_array_equal(voxels[is_clear], (occupancy > threshold)[is_clear])
    assert 0.2 < voxels.mean() < 0.8


@pytest.mark.parametrize("views", [1, 2, 3, 5])
def test_every_signature_gives_the_models_answer(loaded, exported, pictures, views):
    model, threshold = exported.model, exported.threshold
    image_bytes = tf.constant(pictures)[:, :views]
    expected = np.stack([_predicted(model, own[:views]) for own in pictures])
    occupancy = loaded["serving_default"](image_bytes=image_bytes)["occupancy"]
    _check_occupancy(occupancy, expected)
    packed = loaded["voxels"](image_bytes=image_bytes)["voxels_bytes"]
    _check_voxels(packed, expected, threshold)

    state = tf.constant([b"", b""])
    for view in range(views):
        answer = loaded["refine"](image_bytes=image_bytes[:, view], state_bytes=state)
        state = answer["state_bytes"]
    _check_voxels(answer["voxels_bytes"], expected, threshold)
    # Before thresholding: the state is that of one call.
    grids = signatures.State(model).from_bytes(state)
    np.testing.assert_allclose(model.decode(grids), expected, atol=1e-5)

    images = np.random.default_rng(1).random((2, views, *model.image_spec.shape), "float32")
    occupancy = loaded["images"](images=tf.constant(images))["occupancy"]
    _check_occupancy(occupancy, model.predict(images, verbose=0))


def test_padded_answers_each_object_by_its_own_views(loaded, exported, pictures):
    objects, num_views = [*pictures, pictures[0]], [2, 5, 1]
    expected = [
        _predicted(exported.model, own[:n]) for own, n in zip(objects, num_views, strict=True)
    ]
    # The third is what TensorFlow Serving's own padding puts there: a batch's first element.
    for filling in (b"", b"garbage", objects[0][0], None):
        filled = [
            [own if t < n or filling is None else filling for t, own in enumerate(row)]
            for row, n in zip(objects, num_views, strict=True)
        ]
        answer = loaded["padded"](image_bytes=tf.constant(filled), num_views=tf.constant(num_views))
        _check_voxels(answer["voxels_bytes"], np.stack(expected), exported.threshold)


def test_signatures_are_those_of_the_contract(loaded):
    def described(specs):
        return {name: (spec.dtype, spec.shape.as_list()) for name, spec in specs.items()}

    specs = {
        name: (described(one.structured_input_signature[1]), described(one.structured_outputs))
        for name, one in loaded.items()
    }
    pictures = {"image_bytes": (tf.string, [None, None])}
    occupancy = {"occupancy": (tf.float32, [None, 32, 32, 32])}
    voxels = {"voxels_bytes": (tf.string, [None])}
    state = {"state_bytes": (tf.string, [None])}
    assert specs == {
        "serving_default": (pictures, occupancy),
        "voxels": (pictures, voxels),
        "images": ({"images": (tf.float32, [None, None, 64, 64, 3])}, occupancy),
        "refine": ({"image_bytes": (tf.string, [None]), **state}, {**state, **voxels}),
        "padded": ({**pictures, "num_views": (tf.int32, [None])}, voxels),
    }


PNG = _png(np.full((64, 64, 3), 99, np.uint8))


@pytest.mark.parametrize(
    "signature, inputs, message",
    [
        ("serving_default", {"image_bytes": np.zeros((1, 0), object)}, "at least one view"),
        ("voxels", {"image_bytes": np.zeros((0, 3), object)}, "at least one view"),
        ("images", {"images": np.zeros((1, 0, 64, 64, 3), np.float32)}, "at least one view"),
        ("images", {"images": np.zeros((129, 1, 64, 64, 3), np.float32)}, "at most 128 pictures"),
        ("images", {"images": np.full((1, 1, 64, 64, 3), 255, np.float32)}, "in .0, 1.*255"),
        ("images", {"images": np.full((1, 1, 64, 64, 3), np.nan, np.float32)}, "in .0, 1"),
        ("serving_default", {"image_bytes": np.full((1, 129), PNG)}, "at most 128 pictures"),
        ("voxels", {"image_bytes": np.array([[PNG, b"no"]], object)}, "Unknown image file format"),
        ("voxels", {"image_bytes": np.array([[PNG, b""]], object)}, "Input is empty"),
        ("padded", {"image_bytes": [[PNG, PNG]], "num_views": [3]}, "num_views from 1 to"),
        ("padded", {"image_bytes": [[PNG, PNG]], "num_views": [0]}, "num_views from 1 to"),
        ("padded", {"image_bytes": [[PNG]], "num_views": [1, 1]}, "as many num_views"),
        ("refine", {"image_bytes": [PNG], "state_bytes": [b"short"]}, "empty or .* bytes long"),
        ("refine", {"image_bytes": [PNG], "state_bytes": [b"", b""]}, "as many state_bytes"),
    ],
)
def test_what_cannot_be_answered_is_refused(loaded, signature, inputs, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        loaded[signature](**{name: tf.constant(value) for name, value in inputs.items()})


def test_states_of_another_model_or_of_no_numbers_are_refused(exported):
    state = signatures.State(exported.model)
    grids = exported.model.initial_state(1)
    ours = state.to_bytes(grids)[0].numpy()
    theirs = signatures.State(R2N2.from_preset("tiny")).to_bytes(grids)[0].numpy()
    assert ours[8:] == theirs[8:]
    with pytest.raises(tf.errors.InvalidArgumentError, match="that these weights made"):
        state.from_bytes(tf.constant([theirs]))
    not_finite = ours[:8] + np.full(len(ours[8:]) // 4, np.nan, "<f4").tobytes()
    with pytest.raises(tf.errors.InvalidArgumentError, match="finite"):
        state.from_bytes(tf.constant([ours, not_finite]))


@pytest.mark.parametrize("edge", [1, 2, 3, 8])
def test_bits_are_packed_as_numpy_packs_them(edge):
    voxels = np.random.default_rng(edge).random((2, edge, edge, edge)) > 0.5
    packed = signatures.pack_bits(tf.constant(voxels)).numpy()
    assert list(packed) == [np.packbits(grid).tobytes() for grid in voxels]
