"""The losses that training minimises.

Letters: B batch, N grid edge.
"""

import keras


def sample_losses(voxels, occupancy):
    """Binary cross-entropy of each sample, mean over its cells: `(B,)`.

    The original's two-way softmax loss (`lib/layers.py`) in its binary form.
    """
    return keras.ops.mean(keras.ops.binary_crossentropy(voxels, occupancy), axis=(1, 2, 3))
