"""What an `R2N2` does beyond its equations: learning, files. `networks_test.py` has the latter."""

import json
import zipfile

import keras
import numpy as np
import pytest
from reference import NOTEBOOK, images_of, predict, spread

from r2n2_keras.errors import InputError
from r2n2_keras.model.image_spec import ImageSpec
from r2n2_keras.model.metrics import VoxelIoU
from r2n2_keras.model.presets import PRESETS
from r2n2_keras.model.r2n2 import R2N2


def test_decoder_slope_puts_activations_between_the_decoders_convolutions():
    model = R2N2.from_preset("notebook", **NOTEBOOK, decoder_slope=0.1)
    names = [layer.name for layer in model.layers]
    decoder = names[names.index("recurrence") + 1 :]
    assert decoder[1::2] == [*(f"decoder_act{n}" for n in range(1, 5)), "occupancy"]
    assert all("conv" in name for name in decoder[::2])


# Learning


@pytest.fixture(scope="module", params=["lstm", "gru"])
def learner(request):
    """A compiled network whose SGD step subtracts the gradient itself, and its first weights."""
    model = spread(R2N2.from_preset("notebook", **NOTEBOOK, recurrence=request.param))
    model.compile(keras.optimizers.SGD(1.0), "binary_crossentropy")
    return model, model.get_weights()


def gradient(learner, images, voxels):
    """The gradient of the loss as a training step applies it: that of every weight."""
    model, weights = learner
    model.set_weights(weights)
    model.train_on_batch(images, voxels)
    return [before - after for before, after in zip(weights, model.get_weights(), strict=True)]


@pytest.mark.parametrize("lit", [[0], [1], [0, 1]])
def test_every_view_teaches_the_encoder_by_the_gradient_of_the_loss(learner, lit):
    # The notebook detaches the state between views, so there only the last view does. A black view
    # has no part in the first kernel's gradient: what is there came through the lit ones.
    model, weights = learner
    whole = images_of(model, views=2, seed=1)
    voxels = np.random.default_rng(1).integers(0, 2, (1, 16, 16, 16)).astype("float32")
    images = np.zeros_like(whole)
    assert np.all(gradient(learner, images, voxels)[0] == 0)
    images[:, lit] = whole[:, lit]
    slope, *slopes = gradient(learner, images, voxels)
    assert min(np.abs(each).max() for each in (slope, *slopes)) > 1e-5

    def loss(shift):
        model.set_weights([weights[0] + shift * slope, *weights[1:]])
        occupancy = predict(model, images).astype("float64")
        return -np.mean(np.log(np.where(voxels > 0, occupancy, 1 - occupancy)))

    squared = float(np.sum(slope.astype("float64") ** 2))
    shift = 1e-4 / squared  # moves the loss by 1e-4: above rounding, not over the pooling's kinks
    difference = (loss(shift) - loss(-shift)) / (2 * shift)
    assert difference == pytest.approx(squared, rel=0.005)


def test_compile_and_fit_learn_one_object():
    keras.utils.set_random_seed(0)
    model = R2N2.from_preset("notebook", **NOTEBOOK)
    voxels = np.zeros((1, 16, 16, 16), "float32")
    voxels[:, 2:10, 4:8, 6:16] = 1
    images = images_of(model, views=2)
    model.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy", metrics=[VoxelIoU(0.4)])
    before = model.evaluate(images, voxels, verbose=0, return_dict=True)
    many = (np.repeat(array, 50, axis=0) for array in (images, voxels))
    history = model.fit(*many, batch_size=1, epochs=2, verbose=0).history
    after = model.evaluate(images, voxels, verbose=0, return_dict=True)
    assert set(history) == {"loss", "iou"}
    assert before["iou"] < 0.2 and after["iou"] > 0.95
    np.testing.assert_array_equal(predict(model, images) > 0.4, voxels > 0)


# Files


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network of its own kind, and the folder that holds it."""
    other = {"encoder_slope": 0.2, "recurrent_kernel_size": 1, "background": 17}
    model = spread(R2N2.from_preset("notebook", **NOTEBOOK, **other, alpha="threshold"))
    folder = tmp_path_factory.mktemp("saved") / "new" / "folder"
    model.save_to_preset(folder)
    assert [file.name for file in folder.iterdir()] == ["model.keras"]
    return model, folder


@pytest.mark.parametrize("given", ["file", "folder", "text", "keras", "config"])
def test_saved_model_gives_the_same_answer(saved, given):
    model, folder = saved
    file = folder / "model.keras"
    if given == "keras":
        again = keras.saving.load_model(file)
    elif given == "config":
        again = R2N2.from_config(json.loads(json.dumps(model.get_config())))
        again.set_weights(model.get_weights())
    else:
        again = R2N2.from_preset({"file": file, "folder": folder, "text": str(file)}[given])
    assert type(again) is R2N2
    assert again.get_config() == model.get_config()
    assert again.image_spec == ImageSpec(13, 4, 17, "threshold")
    for weight, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)
    images = images_of(model, batch=2, views=3)
    np.testing.assert_allclose(predict(again, images), predict(model, images), atol=1e-6)
    state = again.step(None, images[:, 0])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(again.decode(state)), predict(model, images[:, :1]), atol=1e-6
    )


def test_files_that_do_not_say_what_they_expect_expect_the_originals(saved, tmp_path):
    _, folder = saved
    old = tmp_path / "old.keras"
    with zipfile.ZipFile(folder / "model.keras") as new, zipfile.ZipFile(old, "w") as file:
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                config = json.loads(content)
                del config["config"]["background"], config["config"]["alpha"]
                content = json.dumps(config)
            file.writestr(name, content)
    assert R2N2.from_file(old).image_spec == ImageSpec(13, 4, 240, "composite")


def error_of(preset):
    with pytest.raises(InputError, match=r"^Expected ") as caught:
        R2N2.from_preset(preset)
    message = str(caught.value)
    assert "\n" not in message and str(preset) in message
    return message


def test_what_is_no_preset_is_told(saved, tmp_path):
    message = error_of("lstm_9")
    assert all(name in message for name in PRESETS)
    assert "Choose one of the presets or check the path." in message
    assert "does not exist" in error_of(tmp_path / "nothing.keras")
    assert "does not exist" in error_of(tmp_path)  # a folder without model.keras
    with pytest.raises(ValueError, match=r"^Expected .* Received: .*'features': 8"):
        R2N2.from_preset(saved[1], features=8)


def test_other_and_broken_files_are_told(saved, tmp_path):
    whole, file = saved[1] / "model.keras", tmp_path / "broken.keras"
    content = whole.read_bytes()
    for broken in (b"", b"not a model", content[: len(content) // 2]):
        file.write_bytes(broken)
        assert "which is no .keras file or is damaged" in error_of(file)
    with zipfile.ZipFile(whole) as members, zipfile.ZipFile(file, "w") as rest:
        for name in members.namelist():
            if name != "model.weights.h5":
                rest.writestr(name, members.read(name))
    assert "which cannot be read" in error_of(file)
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(file)
    assert "which holds a Sequential" in error_of(file)
