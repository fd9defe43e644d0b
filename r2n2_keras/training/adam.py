"""Adam in one operation per weight, with the original's weight decay and averaged weights."""

import contextlib

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="r2n2_keras")
class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` by TensorFlow's own kernel: the same numbers, but for rounding.

    Keras writes the update as some 15 operations, each of which reads and writes all weights; they
    took a tenth of a training step of the full network on a CPU. The kernel knows no `amsgrad`.

    It takes gradients that are already summed over the replicas. Keras would clip each replica's
    before, so that `global_clipnorm` would depend on how many replicas there are.

    Args:
        *args: those of `keras.optimizers.Adam`.
        l2: float, training also minimises this times the squared norm of the kernels, not of the
            biases. As in the original (`lib/solver.py`) its gradient goes through Adam with the
            rest, other than AdamW's. It is added after clipping.
        ema_decay: float, d of an exponential moving average of the weights: at update n, counted
            from 1, `average = e * average + (1 - e) * weight` with `e = min(d, (1 + n) / (10 + n))`
            and the weights at `build` for a start. 0: no averages. See `averaged_weights`.
        **kwargs: those of `keras.optimizers.Adam`.
    """

    def __init__(self, *args, l2=0.0, ema_decay=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        if self.amsgrad:
            raise ValueError("Expected Adam without amsgrad. Received: amsgrad=True")
        self.l2 = l2
        self.ema_decay = ema_decay

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._decays = [self.l2 > 0 and is_kernel(variable) for variable in variables]
        self._averages = []
        if self.ema_decay:
            self._averages = self.add_optimizer_variables(variables, "average")
            for average, variable in zip(self._averages, variables, strict=True):
                average.assign(variable)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        gradient = tf.cast(gradient, variable.dtype)
        if self._decays[index]:
            gradient += 2 * self.l2 * variable
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
        if self._averages:
            average = self._averages[index]
            decay = tf.minimum(self.ema_decay, (1 + step) / (10 + step))
            self.assign_add(average, (1 - decay) * (variable - average))

    def _all_reduce_sum_gradients(self, grads_and_vars):
        # They are summed already, see above.
        return grads_and_vars

    def get_config(self):
        return {**super().get_config(), "l2": self.l2, "ema_decay": self.ema_decay}


def is_kernel(variable: keras.Variable) -> bool:
    """Whether a weight of an `R2N2` is a kernel; the others are biases."""
    return variable.name.endswith("kernel")


@contextlib.contextmanager
def averaged_weights(model: keras.Model, optimizer: keras.optimizers.Optimizer):
    """A context in which the trainable weights are their averages, where the optimizer keeps them.

    Weights and averages change places, so that neither is rounded nor copied to the host. Hence
    nothing may be trained or saved to a checkpoint inside. To be entered outside of `strategy.run`.
    """
    averages = getattr(optimizer, "inner_optimizer", optimizer)._averages

    def exchange():
        for average, weight in zip(averages, model.trainable_variables, strict=bool(averages)):
            value = tf.identity(weight)
            weight.assign(average)
            average.assign(value)

    exchange()
    try:
        yield
    finally:
        exchange()
