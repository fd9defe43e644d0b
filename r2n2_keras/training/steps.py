"""What one training step and one evaluation step compute.

Letters: B batch, T views, H W pixels, C channels, N grid edge.
"""

import keras
import tensorflow as tf

from r2n2_keras.evaluation.metrics import voxel_iou
from r2n2_keras.training.adam import FusedAdam


def learning_rate(initial, drop_steps=(), drop_every=0, drop_factor=0.1):
    """A number, or a Keras schedule: the rate is multiplied by `drop_factor` at every drop."""
    schedules = keras.optimizers.schedules
    if drop_every:
        return schedules.ExponentialDecay(initial, drop_every, drop_factor, staircase=True)
    if drop_steps:
        # Keras keeps a value up to its boundary, the boundary included.
        boundaries = [step - 1 for step in drop_steps]
        values = [initial * drop_factor**drops for drops in range(len(drop_steps) + 1)]
        return schedules.PiecewiseConstantDecay(boundaries, values)
    return initial


def make_optimizer(rate, precision="float32"):
    """Adam as the original has it (`lib/solver.py`): epsilon 1e-8 beside the raw square root.

    PyTorch, and with it the notebook, corrects the second moment's bias before it adds epsilon, so
    where gradients are tiny its first steps are larger.

    float16 has no room for small gradients: under "mixed_float16" the loss is scaled up, as far as
    the gradients stay finite, and steps where they do not are left out.
    """
    adam = FusedAdam(rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8)
    if precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(adam)
    return adam


def sample_losses(voxels, occupancy):
    """Binary cross-entropy of each sample, mean over its cells: `(B,)`.

    The original's two-way softmax loss (`lib/layers.py`) in its binary form.
    """
    return keras.ops.mean(keras.ops.binary_crossentropy(voxels, occupancy), axis=(1, 2, 3))


def make_train_step(strategy, model, optimizer, batch_size, threshold):
    """A function of a global batch that updates the model.

    Args:
        strategy: the tf.distribute strategy; model and optimizer were made in its scope.
        model: an `R2N2`.
        optimizer: a built Keras optimizer.
        batch_size: global batch size. Each replica divides by it, so that the summed gradients are
            those of the mean over the whole batch.
        threshold: of the IoU.

    Returns:
        A function of (images, voxels) that gives the loss and the IoU, means over the batch.
    """

    def replica_step(images, voxels):
        with tf.GradientTape() as tape:
            occupancy = model(images, training=True)
            loss = tf.reduce_sum(sample_losses(voxels, occupancy)) / batch_size
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            gradients = _share_overflow(gradients)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss, tf.reduce_sum(voxel_iou(voxels, occupancy, threshold)) / batch_size

    # The number of views may change from batch to batch: one graph serves all.
    @tf.function(reduce_retracing=True)
    def train_step(images, voxels):
        results = strategy.run(replica_step, args=(images, voxels))
        return [strategy.reduce(tf.distribute.ReduceOp.SUM, x, axis=None) for x in results]

    return train_step


def _share_overflow(gradients):
    """Gradients that are finite on all replicas or on none.

    `LossScaleOptimizer` asks the first replica whether to leave a step out.
    """
    overflows = [tf.reduce_any(~tf.math.is_finite(gradient)) for gradient in gradients]
    overflow = tf.cast(tf.reduce_any(overflows), tf.float32)
    replicas = tf.distribute.get_replica_context()
    overflow = replicas.all_reduce(tf.distribute.ReduceOp.SUM, overflow)
    first, *others = gradients
    return [tf.where(overflow > 0, tf.fill(tf.shape(first), float("nan")), first), *others]


def make_eval_step(model, threshold):
    """A function of (images, voxels) that gives losses `(B,)`, IoU `(B,)` and the occupancy."""

    @tf.function(reduce_retracing=True)
    def eval_step(images, voxels):
        occupancy = model(images, training=False)
        return (
            sample_losses(voxels, occupancy),
            voxel_iou(voxels, occupancy, threshold),
            occupancy,
        )

    return eval_step
