"""Requests and their answers that lie beside an exported model, and a process that tries them.

    assets.extra/golden_request.json    body for TensorFlow Serving's REST API
    assets.extra/golden_response.json   what it answers to that
    assets.extra/golden_voxels.json     what `voxels` answers to the same pictures
    assets.extra/golden_checks.json     what the other signatures are asked, by name

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
VOXELS, CHECKS = "golden_voxels.json", "golden_checks.json"
SIGNATURE = "serving_default"
VIEWS = 3
# Other processors round differently, and so does a voxel at the threshold.
TOLERANCE, MAX_DIFFERING = 1e-4, 1e-3


def write(folder: str, checks: dict, answers: dict) -> None:
    """Writes the files into a version folder, whose `assets.extra` must exist.

    `checks` has (requests, output) of each signature, as `signatures.Signature` does; `answers` has
    what each output must be: float `(N, N, N)` or bytes.
    """
    (request,), _ = checks[SIGNATURE]
    instance = {name: values[0] for name, values in request.items()}
    files = {_answer_file(name): {"predictions": [value]} for name, value in answers.items()}
    files[REQUEST] = {"signature_name": SIGNATURE, "instances": [instance]}
    files[CHECKS] = {
        name: {"requests": requests, "output": output}
        for name, (requests, output) in checks.items()
        if name != SIGNATURE
    }
    for name, value in files.items():
        with open(os.path.join(folder, EXTRA, name), "w") as file:
            json.dump(value, file, default=_to_json)


def problems(folder: str) -> list[str]:
    """What the exported model answers wrongly, in words; nothing where all is well.

    Raises errors of all kinds where the files are not as `write` makes them.
    """
    checks, is_whole = _read_checks(folder)
    answers = {
        output: _read(folder, _answer_file(output))["predictions"][0]
        for _, output in checks.values()
    }
    import tensorflow as tf

    found = []
    # As a server runs it: in a graph.
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], folder)
        there = {n: s for n, s in meta_graph.signature_def.items() if not n.startswith("__")}
        if is_whole:
            found += [f"{name} has no golden request" for name in sorted(there.keys() - checks)]
            found += [f"there is no signature {name}" for name in sorted(checks.keys() - there)]
        for name, (requests, output) in checks.items():
            if name in there:
                answer = _ask(session, there[name], requests)[output][0]
                found += _differences(name, answer, answers[output])
    return found


def _answer_file(output):
    return {"occupancy": RESPONSE, "voxels_bytes": VOXELS}.get(output, f"golden_{output}.json")


def _read_checks(folder):
    """The requests and the output of each signature, and whether all signatures must be there."""
    request = _read(folder, REQUEST)
    (instance,) = request["instances"]
    checks = {SIGNATURE: ([{name: [value] for name, value in instance.items()}], "occupancy")}
    if os.path.exists(os.path.join(folder, EXTRA, CHECKS)):
        others = _read(folder, CHECKS)
        return checks | {n: (c["requests"], c["output"]) for n, c in others.items()}, True
    # An export of before there was this file.
    pictures = instance["image_bytes"]
    padded = {"image_bytes": [[*pictures, b""]], "num_views": [len(pictures)]}
    refine = [{"image_bytes": [picture]} for picture in pictures]
    refine[0]["state_bytes"] = [b""]
    requests = {"voxels": checks[SIGNATURE][0], "padded": [padded], "refine": refine}
    return checks | {name: (asked, "voxels_bytes") for name, asked in requests.items()}, False


def _ask(session, signature, requests):
    """The answer to the last of several requests; what one lacks, the answer before it holds."""
    outputs = {alias: info.name for alias, info in signature.outputs.items()}
    answer = {}
    for request in requests:
        feed = {}
        for alias, info in signature.inputs.items():
            dtype = session.graph.get_tensor_by_name(info.name).dtype.as_numpy_dtype
            feed[info.name] = np.array(request.get(alias, answer.get(alias)), dtype)
        answer = session.run(outputs, feed)
    return answer


def _differences(name, answer, expected):
    if isinstance(expected, bytes):
        if len(answer) != len(expected):
            return [f"{name} answers {len(answer)} bytes"]
        bits = [np.unpackbits(np.frombuffer(one, np.uint8)) for one in (answer, expected)]
        differ = np.mean(bits[0] != bits[1]) > MAX_DIFFERING
        return [f"{name} answers other voxels than the golden ones"] if differ else []
    expected = np.array(expected, np.float32)
    if answer.shape != expected.shape:
        return [f"{name} answers shape {answer.shape}, the golden answer {expected.shape}"]
    error = np.abs(answer - expected).max()
    return [] if error <= TOLERANCE else [f"{name} is off the golden answer by {error:.2g}"]


def _to_json(value):
    """Of what JSON does not know: bytes as TensorFlow Serving has them, numbers to six digits."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return np.char.mod("%.6g", value).astype(float).tolist()


def _read(folder, name):
    def of_bytes(value):
        return base64.b64decode(value["b64"], validate=True) if value.keys() == {"b64"} else value

    with open(os.path.join(folder, EXTRA, name)) as file:
        return json.load(file, object_hook=of_bytes)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print(json.dumps(problems(sys.argv[1])))
