"""Trains the quick start under each precision and compares the test IoU.

    python benchmarks/precision.py --out=DIR

Prints one JSON object: seconds of training and IoU at threshold 0.4 (mean over samples, by the
number of views) for each precision. Training data are made before the clock starts.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def run(command, *flags):
    """Runs a command of the package; its output goes to standard error."""
    command = [sys.executable, "-m", f"r2n2_keras.{command}", *flags]
    subprocess.run(command, stdout=sys.stderr, check=True)


def measure(workdir, precision):
    train = [
        "--flagfile=configs/quickstart.cfg",
        f"--workdir={workdir}",
        f"--precision={precision}",
    ]
    run("train", *train, "--dry_run")
    started = time.perf_counter()
    run("train", *train, "--overwrite")
    seconds = time.perf_counter() - started
    run("evaluate", f"--workdir={workdir}")
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    iou = {
        row["views"]: round(row["iou_mean_over_samples"], 4)
        for row in evaluation["summary"]
        if row["threshold"] == 0.4
    }
    return {"train_s": round(seconds), "iou": iou}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="Folder of the runs.")
    args = parser.parse_args()
    print(json.dumps({p: measure(args.out / p, p) for p in PRECISIONS}, indent=2))


if __name__ == "__main__":
    main()
