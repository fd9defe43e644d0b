"""The losses that training can minimise, by name: `--loss=NAME`.

Each takes voxels of 0 and 1 and occupancy, probabilities, both `(B, N, N, N)`, and gives the loss
of every sample, `(B,)`. The functions import Keras: the settings list the names without it.
"""

_CELLS = (1, 2, 3)  # the axes of a sample


def bce(voxels, occupancy):
    """Binary cross-entropy, mean over the cells: the original's softmax loss in binary form."""
    from keras import ops

    return ops.mean(ops.binary_crossentropy(voxels, occupancy), axis=_CELLS)


def dice(voxels, occupancy):
    """1 - (2 sum(v p) + 1) / (sum(v^2) + sum(p^2) + 1): one minus the soft Dice coefficient.

    It weighs an object by its overlap, however few of the cells it fills. Milletari et al. 2016
    (V-Net, arXiv:1606.04797), with 1 added on both sides, so that empty grids have a loss, as in
    3D-RETR (arXiv:2110.08861) and UMIFormer, whose losses lack the 2 and go down to 1/2, not to 0.
    """
    from keras import ops

    overlap = ops.sum(voxels * occupancy, axis=_CELLS)
    sizes = ops.sum(ops.square(voxels) + ops.square(occupancy), axis=_CELLS)
    return 1 - (2 * overlap + 1) / (sizes + 1)


def bce_dice(voxels, occupancy):
    """The sum of `bce` and `dice`, as nnU-Net has it (Isensee et al. 2021, arXiv:1809.10486)."""
    return bce(voxels, occupancy) + dice(voxels, occupancy)


def focal(voxels, occupancy):
    """-a (1 - q)^2 log(q), mean over the cells, where q is the probability of the right answer.

    Cells that are right already count little. The weight a is 0.25 for occupied cells and 0.75 for
    empty ones. Lin et al. 2017 (arXiv:1708.02002), equation 5 with its best gamma and alpha.
    """
    from keras import ops

    cross_entropy = ops.binary_crossentropy(voxels, occupancy)
    wrong = voxels + occupancy - 2 * voxels * occupancy  # 1 - q
    weight = 0.75 - 0.5 * voxels
    return ops.mean(ops.multiply(weight, ops.square(wrong) * cross_entropy), axis=_CELLS)


LOSSES = {"bce": bce, "dice": dice, "bce_dice": bce_dice, "focal": focal}
