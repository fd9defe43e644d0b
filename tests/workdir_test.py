"""The folder of a run: its metrics."""

import pytest

from r2n2_keras import workdir
from r2n2_keras.errors import InputError


def test_metrics_round_trip(tmp_path):
    assert workdir.read_metrics(str(tmp_path)) == []
    assert workdir.best_row([]) is None
    rows = [
        {"step": step, "epoch": step / 10, "samples": 4 * step, "seconds": 1.5, "loss": 0.5,
         "iou": 0.25, "val_loss": 0.6, "val_iou": val_iou, "learning_rate": 1e-4}
        for step, val_iou in ((10, 0.1), (20, 0.3), (30, 0.2))
    ]  # fmt: skip
    workdir.write_metrics(str(tmp_path), rows)
    assert workdir.read_metrics(str(tmp_path)) == rows
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert header == "step,epoch,samples,seconds,loss,iou,val_loss,val_iou,learning_rate"
    assert workdir.best_row(rows)["step"] == 20


@pytest.mark.parametrize("content", ["garbage\n1\n", "step,loss\n1,2\n", "\x00,\x01\nx,y\n"])
def test_metrics_that_are_no_metrics(tmp_path, content):
    (tmp_path / "metrics.csv").write_text(content)
    with pytest.raises(InputError, match=r"metrics\.csv, which cannot be read"):
        workdir.read_metrics(str(tmp_path))
