"""The training loop: one for every tf.distribute strategy.

`Model.fit` is not used: it does not carry MultiWorkerMirroredStrategy, which is to come, and a loop
of one's own does.
"""

import os
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from r2n2_keras.atomic import replacing
from r2n2_keras.data import faults, pipeline
from r2n2_keras.data.augment import Augmentation
from r2n2_keras.data.decode import Frame
from r2n2_keras.errors import InputError
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.outputs import pictures
from r2n2_keras.training import steps as steps_lib
from r2n2_keras.training import workdir as workdir_lib

_DRY_RUN_STEPS = 2
_CHECKPOINTS_KEPT = 3
_STEPS_SHOWN = 50  # the progress bar's loss and IoU are means over this many steps
_EXAMPLES = 4  # validation samples drawn for TensorBoard


def check_data(config, parts):
    """Tells whether the settings can train on these models, before anything is written.

    Raises:
        InputError: a split is empty or a model lacks views.
    """
    for split in ("train", "val"):
        if not parts[split]:
            raise InputError(
                f"Expected at least one {split} model, received none. Give data with at least "
                "three models of a category."
            )
    sampling = sampling_of(config)
    flag = "--num_views"
    pipeline.require_views(parts["train"], sampling.required_views, config.view_ids, flag)
    pipeline.require_views(parts["val"], sampling.required_views, config.view_ids, flag)


def sampling_of(config) -> pipeline.Sampling:
    """How the settings say that training samples are drawn."""
    return pipeline.Sampling(
        batch_size=config.batch_size,
        view_range=config.view_range,
        view_ids=config.view_ids,
        view_sampling=config.view_sampling,
        seed=config.seed,
        augmentation=Augmentation(
            config.random_crop,
            config.random_flip,
            config.random_background,
            config.color_jitter,
        ),
    )


def train(config, strategy, parts):
    """Trains `config.model` on `parts["train"]`, going on where the workdir's run stopped.

    Args:
        config: the settings; the workdir is open.
        strategy: the tf.distribute strategy.
        parts: models of the splits "train" and "val", checked by `check_data`.

    Raises:
        InputError: a file or a checkpoint cannot be used, or the loss is not finite.
    """
    with strategy.scope():
        model = R2N2.from_preset(config.model)
        rate = steps_lib.learning_rate(
            config.learning_rate,
            config.learning_rate_drop_steps,
            config.learning_rate_drop_every,
            config.learning_rate_drop_factor,
        )
        optimizer = steps_lib.make_optimizer(rate, config.precision)
        optimizer.build(model.trainable_variables)
    frame = Frame.of(model, config.background, config.alpha)
    train_step = steps_lib.make_train_step(
        strategy, model, optimizer, config.batch_size, config.threshold
    )
    run = _Run(config, model, optimizer)
    if isinstance(rate, float):  # a checkpoint holds a constant rate; the settings decide
        optimizer.learning_rate = rate

    first, last = run.step, _DRY_RUN_STEPS if config.dry_run else config.steps
    if first >= last:
        print(f"The run in {config.workdir} is at step {first} of {last}: nothing left to train.")
        return
    if first:
        print(f"Going on at step {first} of {last}.")
    skip = config.on_bad_sample == "skip"
    stream = faults.TrainingStream(
        parts["train"],
        frame,
        sampling_of(config),
        skip=skip,
        distribute=strategy.experimental_distribute_dataset,
    )
    progress = keras.utils.Progbar(
        last - first, verbose=int(sys.stdout.isatty()), stateful_metrics=("loss", "iou")
    )
    since_evaluation = []  # (loss, IoU) of each step
    for step, (images, voxels) in enumerate(stream.batches(first, last), start=first + 1):
        loss, iou = (float(value) for value in train_step(images, voxels))
        if not np.isfinite(loss):
            raise InputError(
                f"Expected a finite loss, received {loss} at step {step}. Lower --learning_rate "
                f"(now {config.learning_rate:g})."
            )
        since_evaluation.append((loss, iou))
        recent = np.mean(since_evaluation[-_STEPS_SHOWN:], axis=0)
        run.steps_done.assign(step)
        progress.update(step - first, list(zip(("loss", "iou"), recent, strict=True)))
        if config.dry_run:
            continue
        if step % config.evaluate_every_steps == 0 or step == last:
            loss, iou = np.mean(since_evaluation, axis=0)
            since_evaluation.clear()
            run.evaluate(step, loss, iou, parts, frame)
            run.save_checkpoint()
        elif step % config.checkpoint_every_steps == 0:
            run.save_checkpoint()
    _tell_left_out({**stream.left_out, **run.left_out})
    if config.dry_run:
        print(f"Dry run: {last} steps done, nothing written.")


def _tell_left_out(faults_of_models):
    """Says which models training went on without."""
    if faults_of_models:
        models = "model" if len(faults_of_models) == 1 else "models"
        print(f"Left out {len(faults_of_models)} {models} with unusable files:")
        print(*faults_of_models.values(), sep="\n")


class _Run:
    """A run's memory, in its workdir: checkpoints, metrics, pictures, the best model."""

    def __init__(self, config, model, optimizer):
        self.config = config
        self.model = model
        self.optimizer = optimizer
        self.rows = []
        self.left_out = {}  # what is wrong with validation models
        self.eval_step = steps_lib.make_eval_step(model, config.threshold)
        # Not the optimizer's count of updates: under mixed_float16 it leaves some out.
        self.steps_done = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        if config.dry_run:
            return
        self.best_iou = tf.Variable(-1.0, trainable=False)
        state = tf.train.Checkpoint(
            model=model,
            optimizer=optimizer,
            step=self.steps_done,
            seconds=self.seconds,
            best_iou=self.best_iou,
        )
        self.checkpoints = self._open_checkpoints(state)
        if self._restore(state):
            rows = workdir_lib.read_metrics(config.workdir)
            self.rows = [row for row in rows if row["step"] <= self.step]
        self.started = time.monotonic() - float(self.seconds.numpy())
        self.tensorboard = tf.summary.create_file_writer(self._path(workdir_lib.TENSORBOARD))

    def _open_checkpoints(self, state):
        folder = self._path(workdir_lib.CHECKPOINTS)
        try:
            manager = tf.train.CheckpointManager(state, folder, max_to_keep=_CHECKPOINTS_KEPT)
            named = manager.latest_checkpoint is not None
        except (ValueError, tf.errors.OpError):
            named = False
        if not named and tf.io.gfile.glob(os.path.join(folder, "ckpt-*")):
            raise InputError(
                f"Expected the file `checkpoint` in {folder} to name the newest checkpoint, "
                "received one that names none. Mend it, or --overwrite the run."
            )
        return manager

    def _restore(self, state):
        """Restores the newest checkpoint; False where the run has none."""
        path = self.checkpoints.latest_checkpoint
        if path is None:
            return False
        try:
            state.restore(path).assert_consumed()
        except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
            raise InputError(
                f"Expected a checkpoint, received {path}, which cannot be restored "
                f"({type(error).__name__}). Remove its files and name an older one in `checkpoint` "
                "beside them, or --overwrite the run."
            ) from error
        return True

    @property
    def step(self):
        """Number of training steps done."""
        return int(self.steps_done.numpy())

    def _path(self, name):
        return os.path.join(self.config.workdir, name)

    def save_checkpoint(self):
        self.seconds.assign(time.monotonic() - self.started)
        self.checkpoints.save(checkpoint_number=self.step)

    def evaluate(self, step, loss, iou, parts, frame):
        """Scores the validation split; writes metrics, curves, pictures and the best model."""
        val_loss, val_iou, examples = self._validate(parts["val"], frame)
        row = {
            "step": step,
            "epoch": step * self.config.batch_size / len(parts["train"]),
            "samples": step * self.config.batch_size,
            "seconds": time.monotonic() - self.started,
            "loss": loss,
            "iou": iou,
            "val_loss": val_loss,
            "val_iou": val_iou,
            "learning_rate": float(tf.convert_to_tensor(self.optimizer.learning_rate)),
        }
        self.rows.append(row)
        is_best = val_iou > float(self.best_iou)
        if is_best:
            self.best_iou.assign(val_iou)
            self._save_model()
        workdir_lib.write_metrics(self.config.workdir, self.rows)
        pictures.save(pictures.curves_picture(self.rows), self._path(workdir_lib.CURVES))
        self._write_summaries(row, examples)
        below_the_bar = "\n" if sys.stdout.isatty() else ""
        print(
            f"{below_the_bar}step {step}: loss {loss:.4f}, iou {iou:.4f}, val_loss {val_loss:.4f}, "
            f"val_iou {val_iou:.4f}{', the best so far: saved' if is_best else ''}",
            flush=True,
        )

    def _validate(self, models, frame):
        """Mean loss and IoU over the validation models, and a few (views, truth, prediction)."""
        # As many as a training sample has at most; drawn with repetitions it may have more.
        num_views = min(self.config.view_range[1], *(len(model.views) for model in models))
        result, sound, reasons = faults.on_sound_models(
            models,
            frame,
            lambda some: self._validate_all(some, frame, num_views),
            skip=self.config.on_bad_sample == "skip",
            num_views=num_views,
            view_ids=self.config.view_ids,
        )
        if reasons:
            gone = [model.key for model in models if model not in sound]
            self.left_out.update(zip(gone, reasons, strict=True))
            models[:] = sound
        return result

    def _validate_all(self, models, frame, num_views):
        batches = pipeline.evaluation_batches(
            models,
            frame,
            batch_size=self.config.batch_size,
            num_views=num_views,
            view_ids=self.config.view_ids,
        )
        losses, ious, examples = [], [], []
        for images, voxels in faults.explained(
            batches, models, frame, self.config.batch_size, num_views, self.config.view_ids
        ):
            loss, iou, occupancy = (x.numpy() for x in self.eval_step(images, voxels))
            losses.append(loss)
            ious.append(iou)
            if len(examples) < _EXAMPLES:
                examples += zip(images.numpy(), voxels.numpy(), occupancy, iou, strict=True)
        del examples[_EXAMPLES:]
        return np.concatenate(losses).mean(), np.concatenate(ious).mean(), examples

    def _save_model(self):
        with replacing(self._path(workdir_lib.MODEL)) as partial:
            self.model.save(partial)

    def _write_summaries(self, row, examples):
        threshold = self.config.threshold
        figure = pictures.examples_picture(
            [
                (images, occupancy > threshold, voxels > 0.5, f"IoU {iou:.2f}")
                for images, voxels, occupancy, iou in examples
            ]
        )
        with self.tensorboard.as_default(step=row["step"]):
            for name in ("loss", "iou", "val_loss", "val_iou", "learning_rate"):
                tf.summary.scalar(name, row[name])
            tf.summary.image("validation", pictures.to_array(figure)[None])
        self.tensorboard.flush()
