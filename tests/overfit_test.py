"""The notebook's question, to the small network: can it learn 8 samples by heart?"""

from pathlib import Path

import pytest
from commands import succeed
from training_runs import rows_of

CONFIG = Path(__file__).parents[1] / "configs" / "notebook.cfg"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_eight_samples_are_learned_by_heart(tmp_path):
    flags = (
        f"--flagfile={CONFIG}", "--model=tiny", "--workdir=run", "--learning_rate=1e-3",
        "--learning_rate_drop_every=0", "--steps=800", "--evaluate_every_steps=100",
        "--models_per_category=12",
    )  # fmt: skip
    succeed("train", *flags, cwd=tmp_path, R2N2_CACHE=str(tmp_path / "cache"))
    *_, last = rows_of(tmp_path / "run")
    assert last["loss"] < 0.02
    assert last["iou"] > 0.95
