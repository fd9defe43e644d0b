"""Under which name Keras files keep the classes of this package."""

import keras

register = keras.saving.register_keras_serializable(package="r2n2_keras")
