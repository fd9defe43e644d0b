"""Small models that the stand-in's contract is tried with.

    python tests/standin/standin_models.py DIR

writes them to a folder, with a fresh r2n2 model, models.config and monitoring.config for a real
tensorflow_model_server, which must see the folder under the same path.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf


def _slow(n):
    # Counts to its input, which takes about as many microseconds.
    end = tf.reduce_max(n)
    return {"y": n + 0 * tf.while_loop(lambda i: i < end, lambda i: [i + 1], [0])[0]}


_ONE = {"x": ((None, 1), tf.float32)}
_ANY = {"x": ((None,), tf.float32)}
# What each model of the vectors answers, and the shape and type of each of its inputs.
_MODELS = {
    "default": (lambda x: {"y": 0.5 * x + 2}, _ONE),
    "saved_model_half_plus_three": (lambda x: {"y": 0.5 * x + 3}, _ONE),
    "multi": (
        lambda int_tensor, str_tensor: {"int_tensor": int_tensor, "str_tensor": str_tensor},
        {"int_tensor": (None, tf.int32), "str_tensor": (None, tf.string)},
    ),
    "strmodel": (lambda s: {"s_bytes": s}, {"s": ((None,), tf.string)}),
    "bf16": (lambda x: {"y": x + 0}, {"x": (None, tf.bfloat16)}),
    "bf16out": (lambda x: {"y": tf.cast(x, tf.bfloat16)}, _ANY),
    "scalarout": (lambda x: {"y": x + 0, "c": tf.constant(1.0)}, _ANY),
    "batchout": (lambda x: {"a": x + 0, "b": tf.transpose(x)}, {"x": ((None, 3), tf.float32)}),
    "slow": (_slow, {"n": ((None,), tf.int32)}),
}


def _save(folder, function, inputs, module=None):
    specs = [tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()]
    traced = tf.function(function, input_signature=specs)
    tf.saved_model.save(module or tf.Module(), str(folder), signatures={"serving_default": traced})


def write(folder, name):
    _save(folder, *_MODELS[name])


def identity(folder, dtype):
    _save(folder, lambda x: {"y": tf.identity(x)}, {"x": (None, dtype)})


def constant(folder, value):
    """Answers `value` whatever it is asked, to tell versions apart."""
    _save(folder, lambda x: {"y": 0 * x + float(value)}, _ANY)


def table(folder):
    """A look-up that has to be initialised."""
    module = tf.Module()
    names = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2], tf.string, tf.int64)
    module.table = tf.lookup.StaticHashTable(names, -1)
    _save(folder, lambda s: {"y": module.table.lookup(s)}, {"s": ((None,), tf.string)}, module)


def write_all(folder):
    """Writes the models of the vectors, models.config and monitoring.config."""
    folder = Path(folder)
    for name in _MODELS:
        write(folder / name / ("123" if name == "default" else "1"), name)
    paths = {path.name: path for path in folder.iterdir() if path.is_dir()}
    write_config(folder, paths, {"default": {"Version_Label": 123}})
    page = 'enable: true, path: "/monitoring/prometheus/metrics"'
    (folder / "monitoring.config").write_text(f"prometheus_config {{ {page} }}")
    return folder


def write_config(folder, paths, labels=None, policies=None):
    """Writes models.config in one step."""
    entries = []
    for name, path in paths.items():
        entry = f'name: "{name}" base_path: "{Path(path).resolve()}" model_platform: "tensorflow"'
        for label, version in (labels or {}).get(name, {}).items():
            entry += f' version_labels {{ key: "{label}" value: {version} }}'
        if policy := (policies or {}).get(name):
            entry += f" model_version_policy {{ {policy} }}"
        entries.append(f"config {{ {entry} }}")
    part = Path(folder, "models.config.part")
    part.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    return part.rename(part.with_suffix(""))


def r2n2(folder):
    """Exports a fresh `tiny` with a background of its own and a threshold that half exceeds.

    Returns:
        `model`, `threshold`, `folder` (of the versions) and `version` (the folder of 1).
    """
    from r2n2_keras.model.r2n2 import R2N2
    from r2n2_keras.serving import version_folder

    model = R2N2.from_preset("tiny", background=0, alpha="threshold")
    images = np.random.default_rng(0).random((4, 3, *model.image_spec.shape), "float32")
    threshold = float(np.median(model.predict(images, verbose=0)))
    card = "# A card\n"
    version = version_folder.export_version(model, str(folder), threshold=threshold, card=card)
    return SimpleNamespace(model=model, threshold=threshold, folder=str(folder), version=version)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    r2n2(target / "r2n2")
    print(f"Wrote {write_all(target)}")
