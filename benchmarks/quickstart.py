"""Time, memory and scores of the quick start: the commands of `make quickstart`, from no data.

    python benchmarks/quickstart.py --out=DIR

Ends with one line of JSON: seconds in all and per command, the largest process's peak memory, the
test IoU at 1 and 3 views and threshold 0.4, and the score of the mean shape.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.cfg"
COMMANDS = (
    ("train", f"--flagfile={CONFIG}"),
    ("evaluate", "--workdir=runs/quickstart"),
    ("predict", "--workdir=runs/quickstart"),
    ("export", "--workdir=runs/quickstart"),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a folder without a run in it")
    out = parser.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    seconds = {}
    for command, flag in COMMANDS:
        start = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", f"r2n2_keras.{command}", flag],
            cwd=out,
            env={**os.environ, "R2N2_CACHE": str(out / "cache")},
            check=True,
        )
        seconds[command] = round(time.monotonic() - start, 1)
    evaluation = json.loads((out / "runs" / "quickstart" / "evaluation.json").read_text())
    at = {row["views"]: row for row in evaluation["summary"] if row["threshold"] == 0.4}
    figures = {
        "seconds": round(sum(seconds.values()), 1),
        "seconds_by_command": seconds,
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6, 2),
        "iou_1_view": round(at[1]["iou_mean_over_samples"], 4),
        "iou_3_views": round(at[3]["iou_mean_over_samples"], 4),
        "mean_shape_iou": round(at[3]["mean_shape_iou"], 4),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
