"""The exported model's signatures, in a process that has TensorFlow alone, as a server has."""

import io
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from r2n2_keras import predict
from r2n2_keras.config import Config
from r2n2_keras.data import photos
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.serving import signatures

VIEWS = (1, 2, 3, 5)
BATCH = 2
NUM_VIEWS = [2, 5, 1]

# Loads the version, sends it the pictures in a folder, and stores what it answers.
_ASK = """
import pathlib, sys
import numpy as np, tensorflow as tf
ask = tf.saved_model.load(sys.argv[1]).signatures
folder = pathlib.Path(sys.argv[2])
images = np.load(folder / "images.npz")
answers = {}
for views in map(int, images.files):
    pngs = tf.constant(
        [[(folder / f"{b}-{t}.png").read_bytes() for t in range(views)] for b in range(2)]
    )
    answers[f"serving_default-{views}"] = ask["serving_default"](image_bytes=pngs)["occupancy"]
    answers[f"images-{views}"] = ask["images"](images=tf.constant(images[str(views)]))["occupancy"]
    answers[f"voxels-{views}"] = [list(packed) for packed in
        ask["voxels"](image_bytes=pngs)["voxels_bytes"].numpy()]
    state = tf.constant([b"", b""])
    for view in range(views):
        answer = ask["refine"](image_bytes=pngs[:, view], state_bytes=state)
        state = answer["state_bytes"]
    answers[f"refine-{views}"] = [list(packed) for packed in answer["voxels_bytes"].numpy()]
    answers[f"state-{views}"] = [list(packed) for packed in state.numpy()]
np.savez(folder / "answers.npz", **answers)
assert not [name for name in sys.modules if name.startswith("r2n2_keras")]
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of B-T.png of every kind: colours, sizes, transparency."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    modes = {"RGBA": 4, "RGB": 3, "LA": 2}
    for b in range(BATCH):
        for t, mode in zip(range(max(VIEWS)), [*modes, "RGBA", "RGBA"], strict=True):
            pixels = rng.integers(0, 256, (60 + 9 * t, 80, modes[mode]), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{b}-{t}.png")
    return folder


@pytest.fixture(scope="module")
def answers(exported, pictures):
    """Of a fresh process, and of `model.predict`, to the same: {name: (received, expected)}."""
    rng = np.random.default_rng(1)
    shape = exported.model.image_spec.shape
    images = {str(views): rng.random((BATCH, views, *shape), "float32") for views in VIEWS}
    np.savez(pictures / "images.npz", **images)
    # -I: neither the working folder nor PYTHONPATH can bring the package in.
    command = [sys.executable, "-I", "-c", _ASK, exported.version, str(pictures)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]

    expected = {}
    for views in VIEWS:
        seen = np.stack(
            [_read(pictures, exported.model.image_spec, b, views) for b in range(BATCH)]
        )
        occupancy = exported.model.predict(seen, verbose=0)
        expected[f"images-{views}"] = exported.model.predict(images[str(views)], verbose=0)
        for name in ("serving_default", "voxels", "refine", "state"):
            expected[f"{name}-{views}"] = occupancy
    with np.load(pictures / "answers.npz") as received:
        return {name: (received[name], expected[name]) for name in expected}


def _read(folder, frame, b, views):
    files = [folder / f"{b}-{t}.png" for t in range(views)]
    return photos.read_views([(file.name, file.read_bytes()) for file in files], frame)


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("signature", ["images", "serving_default"])
def test_a_fresh_process_gives_the_models_answers(answers, signature, views):
    received, expected = answers[f"{signature}-{views}"]
    assert received.shape == (BATCH, 32, 32, 32)
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, atol=1e-5)
    assert np.ptp(received) > 1e-3  # an answer, not a constant


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("signature", ["voxels", "refine"])
def test_voxels_are_the_occupancy_above_the_threshold_bit_by_bit(
    answers, exported, signature, views
):
    received, expected = answers[f"{signature}-{views}"]
    assert received.shape == (BATCH, 32**3 // 8)
    _check_voxels(received.astype(np.uint8), expected, exported.threshold)


def _check_voxels(packed, occupancy, threshold):
    voxels = np.unpackbits(packed, axis=-1).reshape(occupancy.shape).astype(bool)
    is_clear = np.abs(occupancy - threshold) > 1e-5
    assert is_clear.mean() > 0.9
    np.testing.assert_array_equal(voxels[is_clear], (occupancy > threshold)[is_clear])
    assert 0.2 < voxels.mean() < 0.8


@pytest.mark.parametrize("views", VIEWS)
def test_the_state_after_all_views_is_that_of_one_call(answers, exported, views):
    received, expected = answers[f"state-{views}"]
    state = [bytes(values.astype(np.uint8)) for values in received]
    grids = signatures.State(exported.model).from_bytes(tf.constant(state))
    np.testing.assert_allclose(exported.model.decode(grids), expected, atol=1e-5)


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(exported.version).signatures


def test_padded_answers_each_object_by_its_own_views(loaded, exported, pictures):
    ask = loaded["padded"]
    files = [[pictures / f"{b % 2}-{t}.png" for t in range(5)] for b in range(3)]
    contents = [[file.read_bytes() for file in row] for row in files]
    expected = np.concatenate(
        [
            exported.model.predict(
                _read(pictures, exported.model.image_spec, b % 2, n)[None], verbose=0
            )
            for b, n in enumerate(NUM_VIEWS)
        ]
    )
    # The third is what TensorFlow Serving's own padding puts there: a batch's first element.
    for filling in (b"", b"garbage", contents[0][0], None):
        filled = [
            [own if t < n or filling is None else filling for t, own in enumerate(row)]
            for row, n in zip(contents, NUM_VIEWS, strict=True)
        ]
        answer = ask(image_bytes=tf.constant(filled), num_views=tf.constant(NUM_VIEWS))
        packed = np.stack([np.frombuffer(v, np.uint8) for v in answer["voxels_bytes"].numpy()])
        _check_voxels(packed, expected, exported.threshold)


def test_signatures_are_those_of_the_contract(loaded):
    specs = {
        name: (
            {n: (s.dtype, s.shape.as_list()) for n, s in f.structured_input_signature[1].items()},
            {n: (s.dtype, s.shape.as_list()) for n, s in f.structured_outputs.items()},
        )
        for name, f in loaded.items()
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


def _png():
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 120, 30)).save(file, "PNG")
    return file.getvalue()


PNG = _png()


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


def test_states_travel_unchanged(exported):
    state = signatures.State(exported.model)
    rng = np.random.default_rng(2)
    grids = [
        rng.normal(size=(3, *g.shape[1:])).astype("f") for g in exported.model.initial_state(1)
    ]
    packed = state.to_bytes(grids)
    naive = [b"".join(grid[b].astype("<f4").tobytes() for grid in grids) for b in range(3)]
    assert [one[signatures.FINGERPRINT_BYTES :] for one in packed.numpy()] == naive
    for received, expected in zip(state.from_bytes(packed), grids, strict=True):
        np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("edge", [1, 2, 3, 8])
def test_bits_are_packed_as_numpy_packs_them(edge):
    voxels = np.random.default_rng(edge).random((2, edge, edge, edge)) > 0.5
    packed = signatures.pack_bits(tf.constant(voxels)).numpy()
    assert list(packed) == [np.packbits(grid).tobytes() for grid in voxels]


def test_what_a_network_expects_to_see_is_what_it_is_shown(pictures, tmp_path):
    """By the signature and by `predict`, from the network's own file."""
    shades = []
    for spec in ({}, {"background": 0, "alpha": "threshold"}):
        keras.utils.set_random_seed(0)
        model = R2N2.from_preset("tiny", **spec)
        views = _read(pictures, model.image_spec, 0, 5)
        expected = model.predict(views[None], verbose=0)[0]
        shades.append(views)

        described = signatures.signatures_of(model, threshold=0.5)
        contents = [[(pictures / f"0-{t}.png").read_bytes() for t in range(5)]]
        answer = described["serving_default"].answer(tf.constant(contents))
        np.testing.assert_allclose(answer["occupancy"][0], expected, atol=1e-5)

        model.save(tmp_path / "model.keras")
        images = tuple(str(pictures / f"0-{t}.png") for t in range(5))
        predict.main(
            Config(
                model_file=str(tmp_path / "model.keras"), images=images, out=str(tmp_path / "out")
            )
        )
        with np.load(tmp_path / "out" / "prediction.npz") as arrays:
            np.testing.assert_allclose(arrays["occupancy"], expected, atol=1e-5)
    assert np.abs(shades[0] - shades[1]).max() > 0.5
