"""What one training step computes."""

import keras
import tensorflow as tf

from r2n2_keras.model.losses import bce
from r2n2_keras.model.metrics import voxel_iou
from r2n2_keras.training.adam import FusedAdam


def learning_rate_at(
    step: int,
    initial: float,
    drop_steps: tuple[int, ...] = (),
    drop_every: int = 0,
    drop_factor: float = 0.1,
) -> float:
    """The learning rate of a step, counted from 0: multiplied by `drop_factor` at every drop.

    Drops come every `drop_every` steps or, where that is 0, at the steps `drop_steps`.
    """
    drops = step // drop_every if drop_every else sum(step >= drop for drop in drop_steps)
    return initial * drop_factor**drops


def make_optimizer(
    learning_rate: float,
    precision: str = "float32",
    *,
    l2: float = 0.0,
    clip_norm: float = 0.0,
    ema_decay: float = 0.0,
) -> keras.optimizers.Optimizer:
    """Adam as the original has it (`lib/solver.py`): epsilon 1e-8 beside the raw square root.

    PyTorch, and with it the notebook, corrects the second moment's bias before it adds epsilon, so
    where gradients are tiny its first steps are larger.

    float16 has no room for small gradients: under "mixed_float16" the loss is scaled up, as far as
    the gradients stay finite, and steps where they do not are left out.

    `l2` and `ema_decay` are those of `FusedAdam`. The original adds 5e-5 times the kernel to its
    gradient, which is an `l2` of 2.5e-5. The gradient of the loss, without that of `l2`, is scaled
    down to `clip_norm` over all weights where it is above; 0: never.
    """
    adam = FusedAdam(
        learning_rate,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        l2=l2,
        global_clipnorm=clip_norm or None,
        ema_decay=ema_decay,
    )
    if precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(adam)
    return adam


def make_train_step(
    strategy,
    model,
    optimizer,
    *,
    batch_size,
    threshold,
    loss_of=bce,
    element_spec=None,
    accumulation_steps=1,
    jit_compile=False,
):
    """A function of a global batch that updates the trainable weights of an `R2N2`.

    Model and optimizer were made in the strategy's scope, and the optimizer is built. With the
    `element_spec` of images and voxels in the distributed dataset, one graph serves a whole run.
    Without it the graph, and with it the last bits of the results, depends on the number of views
    that came first: a run that goes on from a checkpoint would end with other weights.

    To save memory each replica computes its samples in `accumulation_steps` parts, one after the
    other; the result is that of the whole batch. It is a ValueError if they cannot be shared out
    evenly. With `jit_compile` XLA compiles both passes, once for every number of views.

    Returns:
        A function of (images, voxels, stop) that gives one float32 tensor `(3,)`: the loss and the
        IoU, means over the global batch, and the sum of `stop` over the replicas. `stop` is a
        float32 scalar, 1 where this worker is to stop, else 0, so that all stop at the same step.
    """
    size, rest = divmod(batch_size, strategy.num_replicas_in_sync * accumulation_steps)
    if rest:
        raise ValueError(
            f"Expected a batch that {strategy.num_replicas_in_sync} replicas can share out and "
            f"compute in {accumulation_steps} parts. Received: batch_size={batch_size}"
        )
    weights = model.trainable_variables

    def compute(images, voxels):
        with tf.GradientTape() as tape:
            occupancy = model(images, training=True)
            # Summed over the replicas, that is the mean over the whole batch.
            loss = tf.reduce_sum(loss_of(voxels, occupancy)) / batch_size
            scaled = optimizer.scale_loss(loss)
        iou = tf.reduce_sum(voxel_iou(voxels, occupancy, threshold)) / batch_size
        return tf.stack([loss, iou]), tape.gradient(scaled, weights)

    if jit_compile:
        # Not the update: under most strategies it leaves the replica, where XLA cannot follow.
        compute = tf.function(compute, jit_compile=True, reduce_retracing=True)

    def compute_in_parts(images, voxels):
        def add_part(i, results, gradients):
            part = slice(i * size, (i + 1) * size)
            more_results, more_gradients = compute(images[part], voxels[part])
            sums = [a + b for a, b in zip(gradients, more_gradients, strict=True)]
            return i + 1, results + more_results, sums

        nothing = (0, tf.zeros(2), [tf.zeros(weight.shape, weight.dtype) for weight in weights])
        _, results, gradients = tf.while_loop(
            lambda i, *_: i < accumulation_steps, add_part, nothing, parallel_iterations=1
        )
        return results, gradients

    compute_batch = compute if accumulation_steps == 1 else compute_in_parts

    def replica_step(images, voxels, stop):
        results, gradients = compute_batch(images, voxels)
        # Before the optimizer sees them: so it clips the gradient of the whole batch, and under
        # mixed_float16 an overflow on one replica is one on all.
        replicas = tf.distribute.get_replica_context()
        gradients = replicas.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        optimizer.apply(gradients, weights)
        return tf.concat([results, [stop]], axis=0)

    signature = element_spec and [*element_spec, tf.TensorSpec((), tf.float32)]

    @tf.function(input_signature=signature, reduce_retracing=True)
    def train_step(images, voxels, stop):
        results = strategy.run(replica_step, args=(images, voxels, stop))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, results, axis=None)

    return train_step
