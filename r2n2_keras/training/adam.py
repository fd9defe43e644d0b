"""Adam in one operation per weight."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="r2n2_keras")
class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` by TensorFlow's own kernel: the same numbers, but for rounding.

    Without `amsgrad`, which that kernel does not know.

    Keras writes the update as some 15 operations, each of which reads and writes all weights; they
    took a tenth of a training step of the full network on a CPU.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.amsgrad:
            raise ValueError("Expected Adam without amsgrad. Received: amsgrad=True")

    def update_step(self, gradient, variable, learning_rate):
        """Updates one weight and its two moments."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
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
            grad=tf.cast(gradient, variable.dtype),
        )
