"""The exported model's signatures: what TensorFlow Serving answers, and how it is asked for that.

All are stateless, batch first on every input and output, and made of stock TensorFlow ops. Letters:
B objects, T views of each, H W pixels, C channels, N grid edge.

    serving_default: image_bytes string (B, T) -> occupancy float32 (B, N, N, N)
    voxels:          image_bytes string (B, T) -> voxels_bytes string (B,)
    images:          images float32 (B, T, H, W, C) in [0, 1] -> occupancy float32 (B, N, N, N)
    refine:          image_bytes string (B,), state_bytes string (B,)
                     -> state_bytes string (B,), voxels_bytes string (B,)
    padded:          image_bytes string (B, T), num_views int32 (B,) -> voxels_bytes string (B,)

`image_bytes` are encoded pictures, of any format and size that `images.decode_picture` takes.
`voxels_bytes` is what `numpy.packbits` makes of the grid [x, y, z], a bit per voxel.

A server holds requests neither against a signature's shape nor against its own memory: shapes are
checked here, and so is the number of pictures, each of which takes a hundred bytes to send and
megabytes to encode.

To add a signature, write what it answers in `signatures_of` and describe it at the end of that
function. Warm-up requests, the golden request and the check of an export follow from that.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from r2n2_keras.data.photos import decode_views

MAX_PICTURES = 128
MAX_PIXEL = 10  # 1 is white; pixels up to 255 are a likely mistake, and were answered plausibly
FINGERPRINT_BYTES = 8
WARM_UP_VIEWS = (1, 3, 5)

_BYTES = [bytes([byte]) for byte in range(256)]
_FLOAT_BYTES = 4


class Signature(NamedTuple):
    """One thing that a server answers, and how an export is asked for it."""

    answer: Callable  # of the inputs; gives {output: tensor}
    inputs: dict[str, tf.TensorSpec]
    # Of the encoded pictures (T,) of one object and of the same, decoded, (T, H, W, C). Gives the
    # requests, {input: value}, that show it all of them. An input that a request lacks is what the
    # one before answered under that name.
    requests: Callable
    output: str  # by which the answer to the last request is judged; one of `golden_answers`
    warm_up_views: tuple[int, ...] = WARM_UP_VIEWS  # how many views warm-up requests show
    golden_requests: Callable | None = None  # as `requests`, where the golden request is another


def golden_answers(occupancy: np.ndarray, threshold: float) -> dict[str, np.ndarray | bytes]:
    """What each output that is judged must be of one object, from its occupancy `(N, N, N)`."""
    return {"occupancy": occupancy, "voxels_bytes": np.packbits(occupancy > threshold).tobytes()}


def signatures_of(model, threshold: float) -> dict[str, Signature]:
    """The signatures of an `R2N2`; a voxel is occupied where its occupancy is above `threshold`."""
    blank = tf.io.encode_png(tf.zeros((1, 1, 1), tf.uint8)).numpy()
    state, spec = State(model), model.image_spec

    def views_of(image_bytes):
        image_bytes = tf.ensure_shape(image_bytes, (None, None))
        with tf.control_dependencies([_check_count(tf.shape(image_bytes))]):
            return decode_views(image_bytes, spec)

    def voxels_of(occupancy):
        return pack_bits(occupancy > threshold)

    def serving_default(image_bytes):
        return {"occupancy": model(views_of(image_bytes), training=False)}

    def voxels(image_bytes):
        return {"voxels_bytes": voxels_of(model(views_of(image_bytes), training=False))}

    def images(images):
        images = tf.ensure_shape(images, (None, None, *spec.shape))
        checks = [_check_count(tf.shape(images)), _check_pixels(images)]
        with tf.control_dependencies(checks):
            return {"occupancy": model(images, training=False)}

    def refine(image_bytes, state_bytes):
        image_bytes = tf.ensure_shape(image_bytes, (None,))
        state_bytes = tf.ensure_shape(state_bytes, (None,))
        with tf.control_dependencies([_check_lengths(image_bytes, state_bytes, "state_bytes")]):
            views = views_of(image_bytes[:, None])[:, 0]
        grids = model.step(state.from_bytes(state_bytes), views)
        return {
            "state_bytes": state.to_bytes(grids),
            "voxels_bytes": voxels_of(model.decode(grids)),
        }

    def padded(image_bytes, num_views):
        image_bytes = tf.ensure_shape(image_bytes, (None, None))
        num_views = tf.ensure_shape(num_views, (None,))
        count = tf.shape(image_bytes)[1]
        fits = tf.reduce_all((num_views >= 1) & (num_views <= count))
        check = tf.debugging.Assert(
            fits, ["Expected num_views from 1 to the length of image_bytes, received", num_views]
        )
        lengths = _check_lengths(image_bytes, num_views, "num_views")
        with tf.control_dependencies([check, lengths]):
            is_view = tf.range(count) < num_views[:, None]
        # What a client or the server fills up with need not be a picture.
        views = views_of(tf.where(is_view, image_bytes, blank))
        return {"voxels_bytes": voxels_of(model.call_padded(views, num_views))}

    pictures = {"image_bytes": tf.TensorSpec((None, None), tf.string)}
    strings = tf.TensorSpec((None,), tf.string)

    def all_pictures(pictures, images):
        return [{"image_bytes": [pictures]}]

    def one_by_one(pictures, images):
        first, *others = [{"image_bytes": [picture]} for picture in pictures]
        return [{**first, "state_bytes": [b""]}, *others]

    def padded_by(padding):
        return lambda pictures, images: [
            {"image_bytes": [[*pictures, *padding]], "num_views": [len(pictures)]}
        ]

    return {
        "serving_default": Signature(serving_default, pictures, all_pictures, "occupancy"),
        "voxels": Signature(voxels, pictures, all_pictures, "voxels_bytes"),
        "images": Signature(
            images,
            {"images": tf.TensorSpec((None, None, *spec.shape), tf.float32)},
            lambda pictures, images: [{"images": images[None]}],
            "occupancy",
        ),
        "refine": Signature(
            refine,
            {"image_bytes": strings, "state_bytes": strings},
            one_by_one,
            "voxels_bytes",
            warm_up_views=(2,),  # a fresh start, and one that goes on
        ),
        "padded": Signature(
            padded,
            {**pictures, "num_views": tf.TensorSpec((None,), tf.int32)},
            padded_by([]),
            "voxels_bytes",
            golden_requests=padded_by([b""]),
        ),
    }


def make_archive(signatures: dict[str, Signature]):
    """A `keras.export.ExportArchive` of signatures, for `write_out`."""
    # Not told to track the model: it would save the weights that the endpoints use a second time.
    archive = keras.export.ExportArchive()
    for name, signature in signatures.items():
        specs = [tf.TensorSpec(s.shape, s.dtype, n) for n, s in signature.inputs.items()]
        archive.add_endpoint(name, signature.answer, specs)
    return archive


def _check_count(shape):
    objects, views = shape[0], shape[1]
    count = tf.cast(objects, tf.int64) * tf.cast(views, tf.int64)
    fits = (count > 0) & (count <= MAX_PICTURES)
    message = f"Expected at least one view and at most {MAX_PICTURES} pictures in all, received"
    return tf.debugging.Assert(fits, [message, objects, "objects of", views, "views"])


def _check_pixels(images):
    # Not the bounds themselves: filters that scale pictures overshoot.
    largest = tf.reduce_max(tf.abs(images))
    fits = tf.reduce_all(tf.math.is_finite(images)) & (largest <= MAX_PIXEL)
    return tf.debugging.Assert(fits, ["Expected images in [0, 1], received values up to", largest])


def _check_lengths(image_bytes, values, name):
    # Unequal ones would be broadcast, and answered.
    objects, count = tf.shape(image_bytes)[0], tf.size(values)
    message = f"Expected as many {name} as objects, received"
    return tf.debugging.Assert(objects == count, [message, count, "for", objects])


def pack_bits(voxels):
    """Bool `(B, N, N, N)` to strings `(B,)`, as `numpy.packbits` has them."""
    bits = tf.reshape(voxels, [tf.shape(voxels)[0], np.prod(voxels.shape[1:])])
    bits = tf.pad(tf.cast(bits, tf.int32), [[0, 0], [0, -bits.shape[1] % 8]])
    bits = tf.reshape(bits, [-1, bits.shape[1] // 8, 8])
    values = tf.reduce_sum(bits * [128, 64, 32, 16, 8, 4, 2, 1], axis=-1)
    return tf.strings.reduce_join(tf.gather(_BYTES, values), axis=-1)


class State:
    """The recurrent state as bytes: what `refine` sends to a client and takes back.

    A fingerprint of the weights, then the grids one after the other, float32 little-endian. The
    fingerprint refuses the state of another model, from which no sensible voxels could come.
    """

    def __init__(self, model):
        self._shapes = [tuple(grid.shape[1:]) for grid in model.initial_state(1)]
        self._fingerprint = _fingerprint(model)
        self._size = _FLOAT_BYTES * sum(int(np.prod(shape)) for shape in self._shapes)

    def from_bytes(self, state_bytes):
        """Strings `(B,)` to the list of grids that `R2N2.step` takes."""
        fresh = tf.constant(self._fingerprint + bytes(self._size))
        state_bytes = tf.where(tf.strings.length(state_bytes) == 0, fresh, state_bytes)
        start = tf.strings.substr(state_bytes, 0, FINGERPRINT_BYTES)
        size = FINGERPRINT_BYTES + self._size
        is_whole = tf.reduce_all(tf.strings.length(state_bytes) == size)
        message = f"Expected state_bytes to be empty or {size} bytes long, as refine answers."
        checks = [tf.debugging.Assert(is_whole, [message])]
        with tf.control_dependencies(checks):
            belongs = tf.reduce_all(start == self._fingerprint)
            message = (
                "Expected state_bytes that these weights made. Begin with the first view again."
            )
            checks = [tf.debugging.Assert(belongs, [message])]
        with tf.control_dependencies(checks):
            state_bytes = tf.strings.substr(state_bytes, FINGERPRINT_BYTES, self._size)
        values = tf.io.decode_raw(state_bytes, tf.float32)
        values = tf.ensure_shape(values, (None, self._size // _FLOAT_BYTES))
        is_finite = tf.reduce_all(tf.math.is_finite(values))
        message = "Expected state_bytes of finite numbers."
        with tf.control_dependencies([tf.debugging.Assert(is_finite, [message])]):
            parts = tf.split(values, [int(np.prod(shape)) for shape in self._shapes], axis=1)
        return [
            tf.reshape(part, [-1, *shape]) for part, shape in zip(parts, self._shapes, strict=True)
        ]

    def to_bytes(self, grids):
        flat = [
            tf.reshape(g, [-1, int(np.prod(s))]) for g, s in zip(grids, self._shapes, strict=True)
        ]

        def one(values):
            # TensorFlow has no reverse of `decode_raw`. A serialised tensor ends with its bytes; to
            # cut them out takes an eighth of the time of looking up and joining single ones.
            return tf.strings.substr(tf.io.serialize_tensor(values), -self._size, self._size)

        tails = tf.map_fn(one, tf.concat(flat, axis=1), fn_output_signature=tf.string)
        return tf.strings.join([tf.constant(self._fingerprint), tails])


def _fingerprint(model):
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()))
    return digest.digest()[:FINGERPRINT_BYTES]
