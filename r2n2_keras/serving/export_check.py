"""Checks an exported version folder: whether TensorFlow Serving will load it and answer rightly."""

import json
import os
import re
import subprocess
import sys

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from r2n2_keras.errors import InputError, reason
from r2n2_keras.serving import golden, signatures, warmup

# Registered in TensorFlow, but not for a server: Python's, a GPU's own, XLA's, and what reads or
# writes files, those of the variables excepted.
_NOT_SERVED = re.compile(
    r"(Eager|Stateless)?PyFunc(Stateless)?|CudnnRNN.*|_?Xla.*|ReadFile|WriteFile|MatchingFiles"
    r"|Save(Slices)?|Restore(Slice)?|.*(Dataset|Reader|Iterator).*|(Print|Summary)V2|.*SummaryWriter.*"
)
_BORDER_TYPES = {"float32", "int32", "string"}
_TIMEOUT_S = 600


def check(folder: str) -> list[str]:
    """What is wrong with a version folder, in words; nothing where all is well.

    The graph holds stock TensorFlow ops only, none that XLA compiles; every input and output of
    every signature is float32, int32 or string, its first axis the batch; warm-up requests ask
    every signature, for each number of views; and a fresh process that has TensorFlow alone gives
    the golden answer. Raises an InputError for what is not a version folder at all.
    """
    graph = _read_graph(folder)
    found = _op_problems(graph) + _signature_problems(graph) + _warmup_problems(folder, graph)
    # A graph that holds what it should not is not run.
    return found or _golden_problems(folder)


def _read_graph(folder):
    path = os.path.join(folder, "saved_model.pb")
    if not os.path.isfile(path):
        versions = [
            n for n in _names(folder) if os.path.isfile(os.path.join(folder, n, "saved_model.pb"))
        ]
        advice = f"Give {os.path.join(folder, versions[-1])}." if versions else "Give another."
        raise InputError(
            f"Expected a version folder that `export` wrote, received {folder}, in which there is "
            f"no saved_model.pb. {advice}"
        )
    try:
        with open(path, "rb") as file:
            saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    except DecodeError:
        saved_model = saved_model_pb2.SavedModel()
    graphs = [graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags]
    if not graphs:
        raise InputError(
            f"Expected a SavedModel for serving, received {path}, which is none or is damaged. "
            "Export again."
        )
    return graphs[0]


def _names(folder):
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _op_problems(graph):
    functions = graph.graph_def.library.function
    nodes = [*graph.graph_def.node, *(node for f in functions for node in f.node_def)]
    names = {function.signature.name for function in functions}
    ops = {node.op for node in nodes} - names
    stock = set(tf.raw_ops.__dict__) | {"_Retval", "_Arg"}
    found = [
        f"op {op} is none that a server should run"
        for op in sorted(ops)
        if op not in stock or _NOT_SERVED.fullmatch(op)
    ]
    attributes = [one.attr for one in (*nodes, *functions)]
    if any("_XlaMustCompile" in one and one["_XlaMustCompile"].b for one in attributes):
        found.append("a call is compiled by XLA, which a server refuses")
    return found


def _signature_problems(graph):
    found = []
    if golden.SIGNATURE not in graph.signature_def:
        found.append(f"there is no signature {golden.SIGNATURE}")
    for name, signature in _signatures(graph):
        borders = [("input", signature.inputs), ("output", signature.outputs)]
        for kind, alias, info in ((k, a, i) for k, infos in borders for a, i in infos.items()):
            what = f"{kind} {alias} of {name}"
            dtype = tf.as_dtype(info.dtype).name
            if dtype not in _BORDER_TYPES:
                found.append(f"{what} is {dtype}, not {', '.join(sorted(_BORDER_TYPES))}")
            shape = info.tensor_shape
            if shape.unknown_rank or not shape.dim or shape.dim[0].size != -1:
                found.append(f"{what} has no batch axis in front")
    return found


def _warmup_problems(folder, graph):
    try:
        requests = warmup.read(folder)
    except (tf.errors.OpError, DecodeError, ValueError, TypeError) as error:
        why = reason(error) if isinstance(error, tf.errors.OpError) else error
        return [f"the warm-up requests cannot be read ({why})"]
    asked = {(name, _views(inputs)) for name, inputs in requests}
    found = []
    for name, signature in _signatures(graph):
        ranks = [len(info.tensor_shape.dim) for info in signature.inputs.values()]
        rank = max(ranks, default=1)
        for views in (None,) if rank == 1 else signatures.WARM_UP_VIEWS:
            if (name, views) not in asked:
                of = "" if views is None else f" of {views} views"
                found.append(f"no warm-up request{of} asks {name}")
    return found


def _signatures(graph):
    return sorted((n, s) for n, s in graph.signature_def.items() if not n.startswith("__"))


def _views(inputs):
    return next((value.shape[1] for value in inputs.values() if value.ndim > 1), None)


def _golden_problems(folder):
    # -I: neither the working folder nor PYTHONPATH brings anything in.
    command = [sys.executable, "-I", golden.__file__, folder]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return [f"no golden answer within {_TIMEOUT_S} s"]
    if ended.returncode:
        lines = [line.strip() for line in ended.stderr.splitlines()]
        said = [line for line in lines if line and not line.startswith("[[{{node")]
        why = said[-1][:300] if said else f"exit code {ended.returncode}"
        return [f"the golden request fails in a fresh process ({why})"]
    return json.loads(ended.stdout.split("\n")[-2])
