"""Keras callbacks of a run: those that users bring, and the profiler's."""

import importlib
import operator
import os
import shlex

import keras
import tensorflow as tf

from r2n2_keras import workdir as workdir_lib
from r2n2_keras.errors import InputError


def load(names):
    """Makes the callbacks of factories, "module:factory"; an InputError where there are none."""
    loaded = []
    for name in names:
        module, factory = name.split(":")
        try:
            made = operator.attrgetter(factory)(importlib.import_module(module))()
        except Exception as error:  # somebody else's code
            raise InputError(
                f"Expected --callbacks to name a factory of Keras callbacks, module:factory, "
                f"received {name}, which fails ({type(error).__name__}: {error}). Mend it, or "
                "leave it out."
            ) from error
        for callback in made if isinstance(made, list | tuple) else [made]:
            if not isinstance(callback, keras.callbacks.Callback):
                raise InputError(
                    f"Expected {name} of --callbacks to give Keras callbacks, received a "
                    f"{type(callback).__name__}. Mend it, or leave it out."
                )
            loaded.append(callback)
    return loaded


class Profiler(keras.callbacks.Callback):
    """Records the steps `first` to `stop - 1`, counted from 0, for TensorBoard's profiler."""

    def __init__(self, workdir, first, stop):
        super().__init__()
        self._folder = os.path.join(workdir, workdir_lib.TENSORBOARD)
        self._first, self._stop = first, stop
        self._records = False

    def on_train_batch_begin(self, batch, logs=None):
        if self._first <= batch < self._stop and not self._records:
            tf.profiler.experimental.start(self._folder)
            self._records = True

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 == self._stop:
            self._end()

    def on_train_end(self, logs=None):
        self._end()

    def _end(self):
        if self._records:
            tf.profiler.experimental.stop()
            self._records = False
            folder = shlex.quote(self._folder)
            print(f"Wrote a profile: tensorboard --logdir={folder}", flush=True)
