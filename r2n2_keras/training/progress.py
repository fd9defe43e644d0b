"""What a run shows while it trains: a bar on a terminal, or a line a minute in a log."""

import collections
import time

import keras
import numpy as np

from r2n2_keras.terminal import Bar

_STEPS_SHOWN = 50  # loss, IoU and speed are means over this many steps
_SECONDS_BETWEEN_LINES = 60.0


class ProgressBar(keras.callbacks.Callback):
    """Shows loss, IoU, samples per second, the share of time spent waiting for data, and the end.

    The first step of the process is left out of all times: it builds the graph.
    """

    def __init__(self, last_step, batch_size):
        super().__init__()
        self._last_step = last_step
        self._batch_size = batch_size
        self._recent = collections.deque(maxlen=_STEPS_SHOWN)  # (loss, IoU, seconds, waiting)
        self._seen = 0
        self._seconds = self._waiting = 0.0
        self._waited = 0.0
        self._bar = Bar(remaining=False)

    def __enter__(self):
        self._bar.__enter__()
        self._line_at = time.monotonic() + _SECONDS_BETWEEN_LINES
        return self

    def __exit__(self, *_):
        self._bar.__exit__()

    def waited(self, seconds):
        """Takes note of how long the coming step has waited for its data."""
        self._waited = seconds

    def on_train_batch_begin(self, batch, logs=None):
        self._began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        """Shows how far the run is; `batch` counts the steps before this one."""
        now = time.monotonic()
        self._seen += 1
        if self._seen == 1:
            return
        seconds = now - self._began + self._waited
        self._recent.append((logs["loss"], logs["iou"], seconds, self._waited))
        self._seconds += seconds
        self._waiting += self._waited
        if self._bar.is_shown:
            self._bar.update(batch + 1, self._last_step, self._text(batch + 1))
        elif now >= self._line_at:
            self._line_at = now + _SECONDS_BETWEEN_LINES
            print(self._text(batch + 1), flush=True)

    def _text(self, step):
        loss, iou, seconds, waiting = np.mean(self._recent, axis=0)
        return (
            f"step {step}/{self._last_step}: loss {loss:.4f}, iou {iou:.4f}, "
            f"{self._batch_size / seconds:.4g} samples/s, data wait {waiting / seconds:.1%}, "
            f"{duration((self._last_step - step) * seconds)} left"
        )

    @property
    def samples_per_second(self) -> float | None:
        """The mean, evaluations and checkpoints left out; None before there is any."""
        return (self._seen - 1) * self._batch_size / self._seconds if self._seconds else None

    def speed_text(self) -> str:
        """Speed and waiting in brackets, for the end of a run; empty before there is any."""
        if not self._seconds:
            return ""
        waiting = self._waiting / self._seconds
        return f" ({self.samples_per_second:.4g} samples/s, {waiting:.1%} waiting for data)"

    def dry_run_text(self, steps: int) -> str:
        """What a dry run found out about a run of some steps."""
        text = f"Dry run: {self._seen} steps done, nothing written."
        if speed := self.samples_per_second:
            text += f" {speed:.4g} samples/s, so {steps} steps take about "
            text += f"{duration(steps * self._batch_size / speed)}, evaluations apart."
        return text


def duration(seconds):
    """As people say it: "4 min 10 s"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
