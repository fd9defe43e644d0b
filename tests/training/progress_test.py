"""What training says of its speed."""

import types

import pytest

from r2n2_keras.training import progress
from r2n2_keras.training.progress import ProgressBar, duration


def test_durations():
    for seconds, text in (
        (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (151, "2 min 31 s"),
        (3599.6, "1 h 0 min"), (11_520, "3 h 12 min"), (400_000, "111 h 6 min"),
    ):  # fmt: skip
        assert duration(seconds) == text


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(progress, "time", clock)
    return clock


def _step(bar, clock, number, waiting, computing, loss=0.5):
    bar.waited(waiting)
    clock.now += waiting
    bar.on_train_batch_begin(number)
    clock.now += computing
    bar.on_train_batch_end(number, {"loss": loss, "iou": 0.25})


def test_speed_leaves_out_the_first_step_and_what_lies_between(clock):
    bar = ProgressBar(last_step=100, batch_size=8)
    with bar:
        _step(bar, clock, 10, waiting=5, computing=20)  # builds the graph
        assert bar.speed_text() == ""
        assert bar.dry_run_text(1000) == "Dry run: 1 steps done, nothing written."
        _step(bar, clock, 11, waiting=0.5, computing=1.5)
        clock.now += 1000  # an evaluation
        _step(bar, clock, 12, waiting=0.5, computing=1.5)
    assert bar.speed_text() == " (4 samples/s, 25.0% waiting for data)"
    assert bar.dry_run_text(1000).endswith(
        " 4 samples/s, so 1000 steps take about 33 min 20 s, evaluations apart."
    )


def test_a_log_has_a_line_a_minute(clock, capsys):
    bar = ProgressBar(last_step=1000, batch_size=8)
    with bar:
        for number in range(100):
            _step(bar, clock, number, waiting=0.25, computing=1.75, loss=number)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3  # of 200 seconds
    # Loss: the mean of the last 50 steps.
    assert lines[-1] == (
        "step 90/1000: loss 64.5000, iou 0.2500, 4 samples/s, data wait 12.5%, 30 min 20 s left"
    )
