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


def _save(folder, function, module=None, **inputs):
    specs = [tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()]
    traced = tf.function(function, input_signature=specs)
    tf.saved_model.save(module or tf.Module(), str(folder), signatures={"serving_default": traced})


def half_plus(folder, offset=2.0):
    """y = x / 2 + offset."""
    _save(folder, lambda x: {"y": 0.5 * x + offset}, x=((None, 1), tf.float32))


def multi(folder):
    """Two inputs that come out as they went in."""

    def same(int_tensor, str_tensor):
        return {"int_tensor": tf.identity(int_tensor), "str_tensor": tf.identity(str_tensor)}

    _save(folder, same, int_tensor=(None, tf.int32), str_tensor=(None, tf.string))


def strings(folder):
    """Strings that come out as bytes."""
    _save(folder, lambda s: {"s_bytes": tf.identity(s)}, s=((None,), tf.string))


def identity(folder, dtype):
    """One input of any shape that comes out as it went in."""
    _save(folder, lambda x: {"y": tf.identity(x)}, x=(None, dtype))


def bfloat16_output(folder):
    """A type that has no JSON."""
    _save(folder, lambda x: {"y": tf.cast(x, tf.bfloat16)}, x=((None,), tf.float32))


def scalar_output(folder):
    """An output without a batch axis."""
    _save(folder, lambda x: {"y": x + 0, "c": tf.constant(1.0)}, x=((None,), tf.float32))


def batch_output(folder):
    """Outputs of different batch sizes."""
    _save(folder, lambda x: {"a": x + 0, "b": tf.transpose(x)}, x=((None, 3), tf.float32))


def slow(folder):
    """Counts to its input, which takes about as many microseconds."""

    def count(n):
        end = tf.reduce_max(n)
        return {"y": n + 0 * tf.while_loop(lambda i: i < end, lambda i: [i + 1], [0])[0]}

    _save(folder, count, n=((None,), tf.int32))


def table(folder):
    """A look-up that has to be initialised."""
    module = tf.Module()
    names = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2], tf.string, tf.int64)
    module.table = tf.lookup.StaticHashTable(names, -1)
    _save(folder, lambda s: {"y": module.table.lookup(s)}, module, s=((None,), tf.string))


def constant(folder, value):
    """Answers `value` whatever it is asked, to tell versions apart."""
    _save(folder, lambda x: {"y": 0 * x + float(value)}, x=((None,), tf.float32))


def write_warmup(folder, inputs=None, garbage=b"", signature=""):
    """Writes a warm-up request, or a record of `garbage`, into a version."""
    from tensorflow_serving.apis import prediction_log_pb2

    extra = Path(folder, "assets.extra")
    extra.mkdir(exist_ok=True)
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    for name, value in (inputs or {}).items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        writer.write(garbage or log.SerializeToString())


def write_all(folder):
    """Writes the models of the vectors, models.config and monitoring.config."""
    folder = Path(folder)
    half_plus(folder / "default" / "123")
    half_plus(folder / "saved_model_half_plus_three" / "1", 3.0)
    multi(folder / "multi" / "1")
    strings(folder / "strmodel" / "1")
    identity(folder / "bf16" / "1", tf.bfloat16)
    bfloat16_output(folder / "bf16out" / "1")
    scalar_output(folder / "scalarout" / "1")
    batch_output(folder / "batchout" / "1")
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
    """Exports a fresh `tiny` with a threshold that half of its occupancies exceed.

    Returns:
        `model`, `threshold`, `folder` (of the versions) and `version` (the folder of 1).
    """
    from r2n2_keras.model.r2n2 import R2N2
    from r2n2_keras.serving import version_folder

    model = R2N2.from_preset("tiny")
    images = np.random.default_rng(0).random((4, 3, *model.image_spec.shape), "float32")
    threshold = float(np.median(model.predict(images, verbose=0)))
    card = "# A card\n"
    version = version_folder.export_version(model, str(folder), threshold=threshold, card=card)
    return SimpleNamespace(model=model, threshold=threshold, folder=str(folder), version=version)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/standin/standin_models.py DIR")
    target = Path(sys.argv[1])
    r2n2(target / "r2n2")
    print(f"Wrote {write_all(target)}")
