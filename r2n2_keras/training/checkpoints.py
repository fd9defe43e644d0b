"""Checkpoints: all that a run is, in a folder per step that appears only when it is whole.

`checkpoints/step-000000150/state.*` are files of `tf.train.Checkpoint`, which checks a sum of every
value that it reads.
"""

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
    """What a run remembers besides weights and optimizer.

    Attributes:
        step: training steps done. It is also the position in the data, and decides on all that is
            drawn at random.
        seconds: that the run has taken, all its processes together.
        losses: sum over the steps since the last evaluation.
        ious: the same of the IoU.
        steps_since: how many steps these are.
        rollbacks: how often the run went back after a divergence; each halves the learning rate.
        rows: the evaluations, as `metrics.csv` has them.
    """

    step: int = 0
    seconds: float = 0.0
    losses: float = 0.0
    ious: float = 0.0
    steps_since: int = 0
    rollbacks: int = 0
    rows: list[dict] = dataclasses.field(default_factory=list)

    def serialize(self):
        """As JSON, which gives every float back exactly."""
        return json.dumps(dataclasses.asdict(self))

    def deserialize(self, text):
        """Takes the place of what is there."""
        for name, value in json.loads(text).items():
            setattr(self, name, value)

    @property
    def best(self) -> dict | None:
        """The row of the best evaluation."""
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
    """The checkpoints of a run.

    Args:
        workdir: folder of the run.
        model: the network.
        optimizer: its built optimizer.
        state: a `RunState`.
    """

    def __init__(self, workdir: str, model: keras.Model, optimizer, state: RunState):
        self._workdir = workdir
        self._folder = os.path.join(workdir, workdir_lib.CHECKPOINTS)
        self._model = model
        self._optimizer = optimizer
        self._state = state
        self._checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, state=state)

    def save(self) -> bool:
        """Writes a checkpoint of the present step.

        Returns:
            False where something is not finite: that is nothing to go on with.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        if not self.is_finite():
            return False
        path = os.path.join(self._folder, _NAME.format(self._state.step))
        try:
            os.makedirs(self._folder, exist_ok=True)
            self._clear_partial()
            with replacing(path) as partial:
                self._checkpoint.write(os.path.join(partial, _FILES))
                shutil.rmtree(path, ignore_errors=True)  # one of the same step
        except (OSError, tf.errors.OpError) as error:
            why = reason(error) if isinstance(error, tf.errors.OpError) else error.strerror
            newest = max(self.steps(), default=None)
            last = "there is none yet" if newest is None else f"the last is of step {newest}"
            raise InputError(
                f"Expected to write the checkpoint of step {self._state.step} to {path}, "
                f"received: {why}; {last}. Make room or mend the folder, then give the same "
                "command to go on."
            ) from None
        for step in sorted(self.steps())[:-_KEPT]:
            shutil.rmtree(os.path.join(self._folder, _NAME.format(step)), ignore_errors=True)
        return True

    def is_finite(self) -> bool:
        """Whether weights, moments and averages are. A loss can be finite where they are not."""
        variables = [*self._model.weights, *self._optimizer.variables]
        return all(np.isfinite(np.asarray(variable)).all() for variable in variables)

    def restore(self) -> bool:
        """Restores the newest checkpoint that can be read; names those that it passes over.

        Returns:
            False where the run has none yet.

        Raises:
            InputError: none of those there are can be read, or the run has lost all.
        """
        failures, damaged = [], []
        for step in sorted(self.steps(), reverse=True):
            path = os.path.join(self._folder, _NAME.format(step))
            try:
                self._checkpoint.read(os.path.join(path, _FILES)).assert_consumed()
                self._set_aside(damaged)
                return True
            except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
                why = reason(error) if isinstance(error, tf.errors.OpError) else error
                failures.append(f"{path} ({str(why).splitlines()[0]})")
                damaged.append(path)
                print(f"Passing over a damaged checkpoint: {failures[-1]}", flush=True)
        if failures:
            raise InputError(
                f"Expected a checkpoint, received {', '.join(failures)}: none can be restored. "
                "--overwrite removes the run."
            )
        lost = [
            name
            for name in (workdir_lib.METRICS, workdir_lib.MODEL)
            if os.path.exists(os.path.join(self._workdir, name))
        ]
        if lost:
            raise InputError(
                f"Expected a checkpoint in {self._folder}, received none, although the run has "
                f"left {' and '.join(lost)}. Put it back, give another --workdir, or --overwrite "
                "to start afresh."
            )
        return False

    def steps(self) -> list[int]:
        """Steps of which there are checkpoints, damaged ones included."""
        names = os.listdir(self._folder) if os.path.isdir(self._folder) else []
        return [int(match[1]) for name in names if (match := re.fullmatch(r"step-(\d+)", name))]

    def path(self, step: int) -> str:
        """The folder of a checkpoint."""
        return os.path.join(self._folder, _NAME.format(step))

    def _set_aside(self, paths):
        """Renames damaged checkpoints: they are not the newest, nor among those to keep."""
        for path in paths:
            aside = os.path.join(self._folder, f"damaged-{os.path.basename(path)}")
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(path, aside)

    def _clear_partial(self):
        """Removes what a killed process left half written."""
        for name in os.listdir(self._folder):
            if name.startswith("partial-"):
                shutil.rmtree(os.path.join(self._folder, name), ignore_errors=True)
