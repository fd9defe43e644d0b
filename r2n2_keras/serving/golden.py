"""A request and its answer that lie beside an exported model, and a process that tries them.

    assets.extra/golden_request.json    body for TensorFlow Serving's REST API
    assets.extra/golden_response.json   what it answers to that
    assets.extra/golden_voxels.json     what `voxels` answers to the same pictures

The answers are the Keras model's own. This file is also a program, so that a process which has
TensorFlow alone, as a server has, loads the folder and answers:

    python -I golden.py DIR
"""

import base64
import json
import os
import sys

import numpy as np

EXTRA = "assets.extra"
REQUEST, RESPONSE = "golden_request.json", "golden_response.json"
VOXELS = "golden_voxels.json"
SIGNATURE, INPUT, OUTPUT = "serving_default", "image_bytes", "occupancy"
VIEWS = 3
# Other processors round differently, and so does a voxel at the threshold.
TOLERANCE, MAX_DIFFERING = 1e-4, 1e-3


def write(folder: str, pictures: list[bytes], occupancy: np.ndarray, threshold: float) -> None:
    """Writes the files.

    Args:
        folder: of the version; `assets.extra` in it must exist.
        pictures: encoded views of one object.
        occupancy: `(N, N, N)`, the model's answer.
        threshold: a voxel is occupied where its occupancy is above this.
    """
    views = [{"b64": base64.b64encode(content).decode()} for content in pictures]
    numbers = np.char.mod("%.6g", occupancy).astype(float)
    packed = base64.b64encode(np.packbits(occupancy > threshold)).decode()
    for name, value in (
        (REQUEST, {"signature_name": SIGNATURE, "instances": [{INPUT: views}]}),
        (RESPONSE, {"predictions": [numbers.tolist()]}),
        (VOXELS, {"predictions": [{"b64": packed}]}),
    ):
        with open(os.path.join(folder, EXTRA, name), "w") as file:
            json.dump(value, file)


def read(folder: str) -> tuple[list[bytes], np.ndarray, bytes]:
    """The pictures, the occupancy `(N, N, N)` and the packed voxels of `write`.

    Raises:
        OSError: a file is missing.
        ValueError: a file is not as `write` makes it.
    """
    values = []
    for name in (REQUEST, RESPONSE, VOXELS):
        with open(os.path.join(folder, EXTRA, name)) as file:
            values.append(json.load(file))
    try:
        (instance,), (answer,) = values[0]["instances"], values[1]["predictions"]
        pictures = [base64.b64decode(view["b64"], validate=True) for view in instance[INPUT]]
        occupancy = np.array(answer, np.float32)
        voxels = base64.b64decode(values[2]["predictions"][0]["b64"], validate=True)
    except (KeyError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if occupancy.ndim != 3 or not pictures:
        raise ValueError(f"shape {occupancy.shape} and {len(pictures)} pictures")
    return pictures, occupancy, voxels


def answers(folder: str, pictures: list[bytes]) -> dict[str, np.ndarray]:
    """What the exported model makes of one object, by signature, in a graph as a server runs it.

    Returns:
        `serving_default`: occupancy `(N, N, N)`; `voxels`, `padded` and `refine`: bytes, the last
        after all views, one at a time. Only of the signatures that there are.
    """
    import tensorflow as tf

    views = np.array([pictures], object)
    padding = np.array([[*pictures, b""]], object)
    result = {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], folder)

        def ask(name, **inputs):
            signature = meta_graph.signature_def[name]
            return session.run(
                {alias: info.name for alias, info in signature.outputs.items()},
                {signature.inputs[alias].name: value for alias, value in inputs.items()},
            )

        there = meta_graph.signature_def
        result[SIGNATURE] = ask(SIGNATURE, image_bytes=views)[OUTPUT][0]
        if "voxels" in there:
            result["voxels"] = ask("voxels", image_bytes=views)["voxels_bytes"][0]
        if "padded" in there:
            answer = ask("padded", image_bytes=padding, num_views=[len(pictures)])
            result["padded"] = answer["voxels_bytes"][0]
        if "refine" in there:
            state = np.array([b""], object)
            for picture in pictures:
                answer = ask("refine", image_bytes=np.array([picture], object), state_bytes=state)
                state = answer["state_bytes"]
            result["refine"] = answer["voxels_bytes"][0]
    return result


def problems(folder: str) -> list[str]:
    """What the exported model answers wrongly, in words; nothing where all is well."""
    pictures, expected, voxels = read(folder)
    received = answers(folder, pictures)
    occupancy = received.pop(SIGNATURE)
    found = []
    if occupancy.shape != expected.shape:
        return [f"{SIGNATURE} answers shape {occupancy.shape}, the golden answer {expected.shape}"]
    if not (error := np.abs(occupancy - expected).max()) <= TOLERANCE:
        found.append(f"{SIGNATURE} is off the golden answer by {error:.2g}")
    for name, packed in received.items():
        if len(packed) != len(voxels):
            found.append(f"{name} answers {len(packed)} bytes")
        elif _differing(packed, voxels) > MAX_DIFFERING:
            found.append(f"{name} answers other voxels than the golden ones")
    return found


def _differing(packed, others):
    """The part of the voxels that differ."""
    bits = [np.unpackbits(np.frombuffer(one, np.uint8)) for one in (packed, others)]
    return np.mean(bits[0] != bits[1])


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print(json.dumps(problems(sys.argv[1])))
