"""The training loop: one for every tf.distribute strategy.

`Model.fit` is not used, because it does not carry MultiWorkerMirroredStrategy. Keras callbacks run
as they do there; what they take for an epoch ends with an evaluation.

A run is a function of its settings and its data: whatever happens in a step depends on the state,
which a checkpoint holds as a whole, and on the number of the step.
"""

import functools
import os
import shlex
import signal
import time

import keras
import numpy as np
import tensorflow as tf

from r2n2_keras import workdir as workdir_lib
from r2n2_keras.errors import InputError
from r2n2_keras.model.losses import LOSSES
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.training import distribution, progress, setup
from r2n2_keras.training import steps as steps_lib
from r2n2_keras.training.adam import averaged_weights
from r2n2_keras.training.callbacks import Profiler
from r2n2_keras.training.checkpoints import Checkpoints, RunState
from r2n2_keras.training.stopping import StopRequest
from r2n2_keras.training.stream import TrainingStream
from r2n2_keras.training.validation import Validation

_DRY_RUN_STEPS = 3  # the first builds the graph, the others are timed
_ROLLBACKS = 3
_SAVING_SHARE = 0.05  # of the time, at most, where checkpoints are due by time


def train(config, strategy, cluster, parts, callbacks=(), weights=None, summarise=None) -> int:
    """Trains `config.model` on `parts["train"]`, going on where the workdir's run stopped.

    `parts` has the objects of "train" and "val", checked by `check_data`; the chief's workdir is
    open. A new run starts from `weights`, or from fresh ones. After each evaluation the chief calls
    `summarise` with all rows of `metrics.csv` and a few examples, see `Validation.run`. Returns the
    signal that stopped training; 0 where it came to its end.

    Raises:
        InputError: a file or a checkpoint cannot be used, the loss diverges, a worker is lost.
    """
    with distribution.explaining_lost_workers(cluster):
        run = _Run(config, strategy, cluster, parts, weights, summarise)
        run.restore()
        if run.is_done:
            run.print(f"The run in {config.workdir} is {run.position}: nothing left to train.")
            return 0
        with StopRequest() as stop:
            run.train(stop, callbacks)
    run.print_end()
    return run.stopped_by


class _DivergenceError(Exception):
    """A step or an evaluation gave something that training cannot go on with."""

    def __init__(self, step, expected):
        super().__init__(expected)
        self.step, self.expected = step, expected


class _Run:
    """The network, what trains and scores it, and what is kept of it."""

    def __init__(self, config, strategy, cluster, parts, weights, summarise):
        self.config = config
        self.state = RunState()
        self.last_step = _DRY_RUN_STEPS if config.dry_run else config.steps
        self.stopped_by = 0
        self._scheduled_rate = functools.partial(
            steps_lib.learning_rate_at,
            initial=config.learning_rate,
            drop_steps=config.learning_rate_drop_steps,
            drop_every=config.learning_rate_drop_every,
            drop_factor=config.learning_rate_drop_factor,
        )
        self._strategy = strategy
        self._cluster = cluster
        self._epoch_size = len(parts["train"])
        self._writes = cluster.is_chief and not config.dry_run
        self._summarise = summarise
        with strategy.scope():
            self._model = R2N2.from_preset(
                config.model, background=config.background, alpha=config.alpha
            )
            if weights is not None:
                self._model.set_weights(weights)
            for layer in self._model.layers:
                layer.trainable = layer.name.split("_")[0] not in config.freeze
            self._optimizer = steps_lib.make_optimizer(
                self._scheduled_rate(0),
                config.precision,
                l2=config.l2,
                clip_norm=config.clip_norm,
                ema_decay=config.ema_decay,
            )
            self._optimizer.build(self._model.trainable_variables)
        self._stream = TrainingStream(
            parts["train"],
            self._model.image_spec,
            self._model.output_shape[-1],
            setup.sampling_of(config),
            skip=config.on_bad_sample == "skip",
            distribute=functools.partial(distribution.distribute, strategy),
        )
        self._validation = Validation(config, strategy, cluster, self._model, parts["val"])
        self._checkpoints = Checkpoints(config.workdir, self._model, self._optimizer, self.state)

    # === What is due ===

    @property
    def is_done(self):
        return self.state.step >= self.last_step or self._is_stale

    @property
    def position(self):
        text = f"at step {self.state.step} of {self.last_step}"
        if self._is_stale:
            text += f" and no better than at step {self.state.best['step']}"
        return text

    @property
    def _is_stale(self):
        limit = self.config.early_stopping_evaluations
        return 0 < limit <= self.state.evaluations_since_best

    @property
    def _evaluation_is_due(self):
        step = self.state.step
        at_end = step == self.last_step or step % self.config.evaluate_every_steps == 0
        return at_end and step > self.state.evaluated and not self.config.dry_run

    @property
    def _checkpoint_is_due(self):
        if not self._writes or self._evaluation_is_due:  # which saves one, too
            return False
        if self.state.step % self.config.checkpoint_every_steps == 0:
            return True
        seconds = self.config.checkpoint_every_seconds
        since = time.monotonic() - self._saved_at
        return seconds and since > max(seconds, self._saving_took / _SAVING_SHARE)

    # === Training ===

    def restore(self):
        """Goes to where the workdir's run stopped; every worker, to where the chief's did."""
        if self._writes and self._checkpoints.restore() and self.state.rows:
            workdir_lib.write_metrics(self.config.workdir, self.state.rows)
        self._share_state()

    def train(self, stop, callbacks):
        config, state = self.config, self.state
        self._clock = time.monotonic() - state.seconds
        self._saved_at, self._saving_took = time.monotonic(), 0.0
        if state.step:
            self.print(f"Going on at step {state.step} of {self.last_step}.")
        elif self._writes:
            self._save()  # there is always one to go back to
        self._progress = progress.ProgressBar(self.last_step, config.batch_size)
        own = [self._progress] if self._cluster.is_chief else []
        if self._writes and config.profile_range:
            own.append(Profiler(config.workdir, *config.profile_range))
        # Keras' callbacks look for the optimizer here.
        object.__setattr__(self._model, "optimizer", self._optimizer)
        self._model.stop_training = False
        self._callbacks = keras.callbacks.CallbackList(
            [*own, *callbacks],
            model=self._model,
            steps=config.evaluate_every_steps,
            epochs=-(-self.last_step // config.evaluate_every_steps),
            workdir=config.workdir,
            verbose=0,
        )
        gpus = tf.config.list_logical_devices("GPU")
        on_one_gpu = self._strategy.num_replicas_in_sync == 1 and bool(gpus)
        self._train_step = steps_lib.make_train_step(
            self._strategy,
            self._model,
            self._optimizer,
            batch_size=config.batch_size,
            threshold=config.threshold,
            loss_of=LOSSES[config.loss],
            element_spec=self._stream.dataset(state.step).element_spec,
            accumulation_steps=config.gradient_accumulation_steps,
            jit_compile=config.jit_compile == "on" or (config.jit_compile == "auto" and on_one_gpu),
        )
        with self._progress:
            self._callbacks.on_train_begin()
            while True:
                try:
                    self._train(stop)
                    break
                except _DivergenceError as divergence:
                    self._roll_back(divergence)
            self._callbacks.on_train_end()

    def _train(self, stop):
        state = self.state
        batches = self._stream.batches(state.step)
        self._callbacks.on_epoch_begin(len(state.rows))
        while True:
            if self._evaluation_is_due:
                if not self._evaluate(stop):
                    break
                if not self.is_done:
                    self._callbacks.on_epoch_begin(len(state.rows))
            if self.is_done:
                return
            if self._step(batches, stop):
                break
            if self._checkpoint_is_due:
                self._save()
        # A signal that another worker received is this one's, too.
        self.stopped_by = 0 if self._model.stop_training else stop.signal or signal.SIGTERM
        if self._writes:
            self._save()

    def _step(self, batches, stop):
        """One training step; returns whether a worker is to stop after it."""
        state = self.state
        rate = self._scheduled_rate(state.step)
        if state.step and rate != self._scheduled_rate(state.step - 1):
            self._optimizer.learning_rate = rate * 0.5**state.rollbacks
        began = time.monotonic()
        images, voxels = next(batches)
        self._progress.waited(time.monotonic() - began)
        self._callbacks.on_train_batch_begin(state.step)
        stopping = tf.constant(float(bool(stop.signal or self._model.stop_training)))
        loss, iou, stopping = self._train_step(images, voxels, stopping).numpy().tolist()
        limit = self.config.loss_limit
        if not np.isfinite(loss) or 0 < limit < loss:
            expected = f"a loss of at most {limit:g}" if np.isfinite(loss) else "a finite loss"
            raise _DivergenceError(state.step, f"{expected}, received {loss:g}")
        state.losses += loss
        state.ious += iou
        state.steps_since += 1
        state.step += 1
        self._callbacks.on_train_batch_end(state.step - 1, {"loss": loss, "iou": iou})
        return stopping > 0

    def _evaluate(self, stop):
        """Scores the validation objects and keeps what comes of it; False where it has to stop."""
        state = self.state
        self._callbacks.on_test_begin()
        with averaged_weights(self._model, self._optimizer):
            scores = self._validation.run(stop)
            if scores is None:
                return False
            val_loss, val_iou, examples = scores
            self._callbacks.on_test_end({"loss": val_loss, "iou": val_iou})
            self._check(np.isfinite(val_loss), f"a finite validation loss, received {val_loss:g}")
            self._check(self._checkpoints.is_finite())
            is_best = not state.rows or val_iou > state.best["val_iou"]
            if is_best and self._writes:
                self._checkpoints.save_model()
        row = {
            "step": state.step,
            "epoch": state.step * self.config.batch_size / self._epoch_size,
            "samples": state.step * self.config.batch_size,
            "seconds": time.monotonic() - self._clock,
            "loss": state.losses / state.steps_since,
            "iou": state.ious / state.steps_since,
            "val_loss": val_loss,
            "val_iou": val_iou,
            "learning_rate": self._learning_rate,
        }
        state.rows.append(row)
        state.losses = state.ious = 0.0
        state.steps_since = 0
        if self._writes:
            self._save()
            workdir_lib.write_metrics(self.config.workdir, state.rows)
            if self._summarise:
                self._summarise(state.rows, examples)
        self.print(
            f"step {row['step']}: loss ({self.config.loss}) {row['loss']:.4f}, iou "
            f"{row['iou']:.4f}, val_loss {val_loss:.4f}, val_iou {val_iou:.4f}"
            f"{', the best so far: saved' if is_best else ''}"
        )
        names = ("loss", "iou", "val_loss", "val_iou", "learning_rate")
        self._callbacks.on_epoch_end(len(state.rows) - 1, {name: row[name] for name in names})
        stopping = [bool(self._model.stop_training)]
        return not distribution.total(self._strategy, self._cluster, stopping)[0]

    def _roll_back(self, divergence):
        config, state = self.config, self.state
        rollbacks = state.rollbacks + 1
        names = ", ".join(self._stream.names(divergence.step))
        what = f"Expected {divergence.expected} at step {divergence.step + 1}, on {names}."
        if config.dry_run or config.on_divergence == "stop" or rollbacks > _ROLLBACKS:
            advice = "Start anew with a lower --learning_rate"
            if config.on_divergence == "stop":
                advice += ", or go on from there with --on_divergence=rollback"
            raise InputError(
                f"{what} The last good checkpoint is {self._checkpoints.newest or 'none'}. "
                f"{advice} (now {self._learning_rate:g})."
            )
        if self._writes:
            self._checkpoints.restore()
        self._share_state()
        rate = self._learning_rate * 0.5 ** (rollbacks - state.rollbacks)
        self._optimizer.learning_rate = rate
        state.rollbacks = rollbacks
        if self._writes:
            self._save()  # else a restart would begin to count anew
        self.print(
            f"{what} Going back to step {state.step} with half the learning rate, {rate:g} "
            f"(rollback {rollbacks} of at most {_ROLLBACKS})."
        )

    # === State ===

    @property
    def _learning_rate(self):
        return float(keras.ops.convert_to_numpy(self._optimizer.learning_rate))

    def _share_state(self):
        workers = self._strategy, self._cluster
        variables = [*self._model.weights, *self._optimizer.variables]
        distribution.broadcast(*workers, variables)
        self.state.deserialize(distribution.text_of(0, *workers, self.state.serialize()))

    def _save(self):
        began = time.monotonic()
        self.state.seconds = began - self._clock
        saved = self._checkpoints.save()
        # With several workers all find it out together, at the next evaluation.
        self._check(saved or self._cluster.workers > 1)
        self._saved_at = time.monotonic()
        self._saving_took = self._saved_at - began

    def _check(self, is_finite, expected="finite weights, received some that are not"):
        if not is_finite:
            raise _DivergenceError(self.state.step - 1, expected)

    # === What it prints ===

    def print(self, text):
        if self._cluster.is_chief:
            print(text, flush=True)

    def print_end(self):
        left_out = {**self._stream.left_out, **self._validation.left_out}
        if left_out:
            models = "model" if len(left_out) == 1 else "models"
            print(f"Left out {len(left_out)} {models} with unusable files:")
            print(*left_out.values(), sep="\n")
        if self.config.dry_run:
            self.print(self._progress.dry_run_text(self.config.steps))
            return
        took = progress.duration(time.monotonic() - self._clock) + self._progress.speed_text()
        if not self.is_done:
            self.print(
                f"Stopped {self.position} after {took}, with a checkpoint. The same command goes "
                "on from there."
            )
            return
        self.print(f"The run is {self.position}, after {took}.")
        folder = self.config.workdir
        names = (workdir_lib.MODEL, workdir_lib.CURVES, workdir_lib.TENSORBOARD)
        model, curves, board = (os.path.join(folder, name) for name in names)
        if best := self.state.best:
            self.print(f"Best: step {best['step']}, val_iou {best['val_iou']:.4f}: {model}")
        self.print(f"Curves: {curves}; tensorboard --logdir={shlex.quote(board)}")
        self.print(f"Next: python -m r2n2_keras.evaluate --workdir={shlex.quote(folder)}")
