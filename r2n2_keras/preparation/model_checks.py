"""Checks of one model and its files: what is wrong whatever the other models are like."""

import dataclasses
import hashlib
import struct

import tensorflow as tf

from r2n2_keras.data import binvox, images
from r2n2_keras.errors import InputError, reason
from r2n2_keras.preparation.problems import Fault, Kind, Problem, without_advice
from r2n2_keras.preparation.sources import Candidate, Prepared, Tree

_PNG = b"\x89PNG\r\n\x1a\n"
_MODES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}

Dims = tuple[int, int, int]


@dataclasses.dataclass(slots=True)
class Inspection:
    """What is kept of a model.

    Attributes:
        candidate: the model.
        views: names of all its renderings.
        pictures: view, digest and look of those that can be decoded.
        grid: digest and dims of the voxels; None where they are missing or broken.
        problems: what is wrong.
        strays: paths of files that are no part of it.
    """

    candidate: Candidate
    views: tuple[str, ...] = ()
    pictures: list[tuple[str, int, str]] = dataclasses.field(default_factory=list)
    grid: tuple[int, Dims] | None = None
    problems: list[Problem] = dataclasses.field(default_factory=list)
    strays: list[str] = dataclasses.field(default_factory=list)


def inspect(source: Tree | Prepared, candidate: Candidate) -> Inspection:
    """Reads and decodes all files of a model, one after the other."""
    key = candidate.key
    result = Inspection(candidate)
    try:
        opened = source.open(candidate)
    except Fault as fault:
        result.problems.append(fault.at(candidate.views_path, key))
        return result
    result.views, result.problems, result.strays = opened.views, opened.problems, opened.strays
    for view in opened.views:
        try:
            content = opened.read_view(view)
            if content is not None:
                result.pictures.append((view, _digest(content), check_png(content)))
        except Fault as fault:
            result.problems.append(fault.at(candidate.view_path(view), key))
    if opened.has_voxels:
        try:
            content = opened.read_voxels()
            if content is not None:
                result.grid = _digest(content), check_voxels(content)
        except Fault as fault:
            result.problems.append(fault.at(candidate.voxels_path, key))
    result.problems += _missing(opened, candidate)
    return result


def check_png(content: bytes) -> str:
    """Size and mode of a PNG, such as "137x137 RGBA"; decodes it as training does.

    Raises:
        Fault: it cannot be decoded.
    """
    if content[:8] != _PNG or content[12:16] != b"IHDR" or len(content) < 26:
        received = f"{len(content)} bytes, first {content[:8]!r}" if content else "an empty file"
        raise Fault(Kind.PNG, f"expected a PNG, received {received}")
    width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
    most = images.MAX_PNG_EDGE
    if not (0 < width <= most and 0 < height <= most):
        raise Fault(
            Kind.PNG, f"expected 1 to {most} pixels along each edge, received {width}x{height}"
        )
    try:
        tf.io.decode_png(tf.constant(content), channels=4)
    except tf.errors.OpError as error:
        raise Fault(
            Kind.PNG, f"expected a PNG, received one that cannot be decoded ({reason(error)})"
        ) from None
    mode = _MODES.get(colour, f"colour type {colour}")
    return f"{width}x{height} {mode}" + f" of {depth} bits" * (depth != 8)


def check_voxels(content: bytes) -> Dims:
    """Dims of a binvox file.

    Raises:
        Fault: it is damaged, or has no occupied voxel.
    """
    try:
        dims, occupied = binvox.check(content, "")
    except InputError as error:
        raise Fault(Kind.BINVOX, without_advice(error)) from None
    if not occupied:
        raise Fault(Kind.EMPTY, "expected an occupied voxel, received an empty grid")
    return dims


def _missing(opened, candidate):
    """Problems: the half that a model lacks, or both."""
    problems = []
    if not opened.views:
        text = "expected renderings NN.png" + " for the voxels" * opened.has_voxels
        fault = Fault(Kind.PARTNER, f"{text}, received none")
        problems.append(fault.at(candidate.views_path, candidate.key))
    if not opened.has_voxels:
        text = "expected voxels" + " for the renderings" * bool(opened.views)
        fault = Fault(Kind.PARTNER, f"{text}, received none")
        problems.append(fault.at(candidate.voxels_path, candidate.key))
    return problems


def _digest(content):
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
