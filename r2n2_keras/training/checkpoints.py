"""Checkpoints: all that a run is, in a folder per step that appears only when it is whole.

`tf.train.Checkpoint` writes its files and checks a sum of every value that it reads.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil

import keras
import numpy as np
import tensorflow as tf

from r2n2_keras import workdir as workdir_lib
from r2n2_keras.errors import InputError, reason
from r2n2_keras.files import replacing

_KEPT = 3
_NAME = "step-{:09d}"
_FILES = "state"


@dataclasses.dataclass(eq=False)  # TensorFlow asks for a hash
class RunState(tf.train.experimental.PythonState):
    """What a run remembers besides weights and optimizer."""

    # Training steps done: the position in the data, which decides on all that is drawn at random.
    step: int = 0
    seconds: float = 0.0  # that all processes of the run have taken
    losses: float = 0.0  # summed over the steps since the last evaluation
    ious: float = 0.0
    steps_since: int = 0  # how many steps these are
    rollbacks: int = 0  # after divergences; each halves the learning rate
    rows: list[dict] = dataclasses.field(default_factory=list)  # as `metrics.csv` has them

    def serialize(self):
        """As JSON, which gives every float back exactly."""
        return json.dumps(dataclasses.asdict(self))

    def deserialize(self, text):
        for name, value in json.loads(text).items():
            setattr(self, name, value)

    @property
    def best(self) -> dict | None:
        return workdir_lib.best_row(self.rows)

    @property
    def evaluated(self) -> int:
        """The step of the last evaluation; 0 where there was none."""
        return self.rows[-1]["step"] if self.rows else 0

    @property
    def evaluations_since_best(self) -> int:
        """How many evaluations in a row were no better."""
        return len(self.rows) - 1 - self.rows.index(self.best) if self.rows else 0


class Checkpoints:
    """The checkpoints of a run, and its best model."""

    def __init__(self, workdir: str, model: keras.Model, optimizer, state: RunState):
        self._workdir = workdir
        self._folder = os.path.join(workdir, workdir_lib.CHECKPOINTS)
        self._model = model
        self._optimizer = optimizer
        self._state = state
        self._checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, state=state)

    def save(self) -> bool:
        """Writes a checkpoint; False if not all is finite, InputError if it cannot be written."""
        if not self.is_finite():
            return False
        path = self._path(self._state.step)
        with self._explaining_failures(f"the checkpoint of step {self._state.step}", path):
            os.makedirs(self._folder, exist_ok=True)
            for name in os.listdir(self._folder):
                if name.startswith("partial-"):  # of a process that was killed
                    shutil.rmtree(os.path.join(self._folder, name), ignore_errors=True)
            with replacing(path) as partial:
                self._checkpoint.write(os.path.join(partial, _FILES))
                shutil.rmtree(path, ignore_errors=True)  # one of the same step
        for step in self.steps()[:-_KEPT]:
            shutil.rmtree(self._path(step), ignore_errors=True)
        return True

    def save_model(self) -> None:
        """Writes the network without its optimizer; an InputError if it cannot be written."""
        path = os.path.join(self._workdir, workdir_lib.MODEL)
        # With it, which callbacks look for in the model, the file would be three times as large.
        del self._model.optimizer
        with self._explaining_failures("the model", path), replacing(path) as partial:
            self._model.save(partial)
        object.__setattr__(self._model, "optimizer", self._optimizer)

    @contextlib.contextmanager
    def _explaining_failures(self, what, path):
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            newest = self.newest
            last = f"the last checkpoint is {newest}" if newest else "there is no checkpoint yet"
            raise InputError(
                f"Expected to write {what} to {path}, received: {reason(error)}; {last}. Make room "
                "or mend the folder, then give the same command to go on."
            ) from None

    def is_finite(self) -> bool:
        """Whether weights, moments and averages are. A loss can be finite where they are not."""
        variables = [*self._model.weights, *self._optimizer.variables]
        return all(np.isfinite(np.asarray(variable)).all() for variable in variables)

    def restore(self) -> bool:
        """Restores the newest readable checkpoint; False where the run has none yet.

        Where none of those there are can be read, or the run has lost all, it raises an InputError.
        """
        damaged = {}
        for step in reversed(self.steps()):
            path = self._path(step)
            try:
                self._checkpoint.read(os.path.join(path, _FILES)).assert_consumed()
            except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
                why = reason(error) if isinstance(error, tf.errors.OpError) else str(error)
                damaged[path] = f"{path} ({why.partition(chr(10))[0]})"
                print(f"Passing over a damaged checkpoint: {damaged[path]}", flush=True)
                continue
            for path in damaged:  # they are not the newest, nor among those to keep
                aside = os.path.join(self._folder, f"damaged-{os.path.basename(path)}")
                shutil.rmtree(aside, ignore_errors=True)
                os.rename(path, aside)
            return True
        if damaged:
            raise InputError(
                f"Expected a checkpoint, received {', '.join(damaged.values())}: none can be "
                "restored. --overwrite removes the run."
            )
        results = (workdir_lib.METRICS, workdir_lib.MODEL)
        left = [name for name in results if os.path.exists(os.path.join(self._workdir, name))]
        if left:
            raise InputError(
                f"Expected a checkpoint in {self._folder}, received none, although the run has "
                f"left {' and '.join(left)}. Put it back, give another --workdir, or --overwrite "
                "to start afresh."
            )
        return False

    def steps(self) -> list[int]:
        """Steps of which there are checkpoints, damaged ones included, in their order."""
        names = os.listdir(self._folder) if os.path.isdir(self._folder) else []
        matches = (re.fullmatch(r"step-(\d+)", name) for name in names)
        return sorted(int(match[1]) for match in matches if match)

    @property
    def newest(self) -> str | None:
        """The folder of the newest checkpoint; None where there is none."""
        steps = self.steps()
        return self._path(steps[-1]) if steps else None

    def _path(self, step):
        return os.path.join(self._folder, _NAME.format(step))
