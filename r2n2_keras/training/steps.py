"""What one training step computes.

Letters: B batch, T views, H W pixels, C channels, N grid edge.
"""

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
    """The learning rate of a step: multiplied by `drop_factor` at every drop.

    Args:
        step: number of steps done before this one.
        initial: the rate of step 0.
        drop_steps: steps from which on the rate is lower, in place of `drop_every`.
        drop_every: number of steps between drops; 0: none.
        drop_factor: what a drop multiplies the rate by.
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

    Args:
        learning_rate: may be assigned at any time, as `optimizer.learning_rate`.
        precision: the Keras dtype policy of the model.
        l2: weight decay: training also minimises this times the squared norm of the kernels. The
            original adds 5e-5 times the kernel to its gradient, which is 2.5e-5 here.
        clip_norm: the gradient of the loss, without that of `l2`, is scaled down to this norm over
            all weights where it is above. 0: never.
        ema_decay: of the moving average of the weights, see `FusedAdam`. 0: none is kept.
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
    """A function of a global batch that updates the model.

    Args:
        strategy: the tf.distribute strategy; model and optimizer were made in its scope.
        model: an `R2N2`. Weights that are not trainable now are left alone.
        optimizer: of `make_optimizer`, built with the trainable weights.
        batch_size: global batch size, a multiple of the replicas times `accumulation_steps`.
        threshold: of the IoU.
        loss_of: one of `LOSSES`.
        element_spec: specs of images and voxels, as the distributed dataset has them. Then one
            graph serves a whole run. Without it the graph, and with it the last bits of the
            results, depends on the number of views that came first: a run that goes on from a
            checkpoint would end with other weights than an undisturbed one.
        accumulation_steps: number of parts that each replica computes its samples in, one after the
            other, to save memory. The result is that of the whole batch.
        jit_compile: whether XLA compiles the forward and backward pass, once for every number of
            views.

    Returns:
        A function of (images, voxels, stop) that gives one float32 tensor `(3,)`: the loss and the
        IoU, means over the global batch, and the sum of `stop` over the replicas. `stop` is a
        float32 scalar, 1 where this worker is to stop, else 0, so that all stop at the same step.

    Raises:
        ValueError: the batch cannot be shared out evenly over replicas and parts.
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
