"""What training costs besides its steps: the loop, waiting for data, memory, going on.

    python benchmarks/training.py --out=DIR

* loop: steps per second of the training loop beside a bare `tf.function` with the same network,
  optimizer and batch, held in memory, in one process, in turn;
* waiting: the share of the time that the quick start's steps wait for their data;
* memory: of a process that trains for 5,000 steps, at step 500 and at the end;
* resume: seconds from the start of the process to the end of the first step, of a fresh run and of
  one that goes on, in turn.

Data: synthesised furniture. Ends with one line of JSON.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.cfg"
PARTS = ("loop", "waiting", "memory", "resume")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a folder without a run in it")
    parser.add_argument("--parts", default=",".join(PARTS), help="which of them")
    parser.add_argument("--steps", type=int, default=60, help="loop: steps of a round")
    parser.add_argument("--rounds", type=int, default=5, help="loop and resume: how many, in turn")
    parser.add_argument("--memory_steps", type=int, default=5000)
    args = parser.parse_args()
    args.out = args.out.resolve()
    os.environ["R2N2_CACHE"] = str(args.out / "cache")
    figures = {}
    for part in args.parts.split(","):
        figures.update(
            {"loop": loop, "waiting": waiting, "memory": memory, "resume": resume}[part](args)
        )
        print(json.dumps(figures), flush=True)


def loop(args):
    """In turn: `rounds` times `steps` steps of each, the first of each round left out."""
    import numpy as np
    import tensorflow as tf

    from r2n2_keras import runs
    from r2n2_keras.config import Config
    from r2n2_keras.data import splits, trees
    from r2n2_keras.model import losses, metrics
    from r2n2_keras.model.r2n2 import R2N2
    from r2n2_keras.outputs.summaries import Summaries
    from r2n2_keras.shapes import dataset
    from r2n2_keras.training import cluster as cluster_lib
    from r2n2_keras.training import distribution, steps
    from r2n2_keras.training import loop as loop_lib
    from r2n2_keras.training.stream import TrainingStream

    tree = args.out / "tree"
    if not tree.exists():
        dataset.synthesize(tree, models_per_category=5, num_views=3)
    parts = splits.split_objects(*trees.list_objects(str(tree))).parts
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    batch = (
        tf.constant(rng.random((16, 3, 64, 64, 3)), tf.float32),
        tf.constant(rng.random((16, 32, 32, 32)) > 0.5, tf.float32),
    )
    # The loop gets this batch from memory, again and again, the rest is as always.
    TrainingStream.dataset = lambda self, step: tf.data.Dataset.from_tensors(batch).repeat()

    model = R2N2.from_preset("tiny")
    optimizer = steps.make_optimizer(1e-4)
    optimizer.build(model.trainable_variables)

    @tf.function
    def bare_step(images, voxels):
        with tf.GradientTape() as tape:
            occupancy = model(images, training=True)
            loss = tf.reduce_mean(losses.bce(voxels, occupancy))
            iou = tf.reduce_mean(metrics.voxel_iou(voxels, occupancy, 0.4))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss, iou

    def bare():
        ends = []
        for _ in range(args.steps):
            [float(x) for x in bare_step(*batch)]
            ends.append(time.perf_counter())
        return (args.steps - 1) / (ends[-1] - ends[0])

    class Ends(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.ends = []

        def on_train_batch_end(self, batch, logs=None):
            self.ends.append(time.perf_counter())

    cluster = cluster_lib.Cluster()
    strategy = distribution.strategy_for("one_device", 1, cluster, 0)

    def looped(number):
        config = Config(
            model="tiny", workdir=str(args.out / f"loop{number}"), steps=args.steps, batch_size=16,
            evaluate_every_steps=10**6, checkpoint_every_steps=10**6,
        )  # fmt: skip
        ends = Ends()
        summarise = Summaries(config.workdir, config.threshold, config.loss).write
        with runs.opened(config):
            loop_lib.train(config, strategy, cluster, parts, [ends], summarise=summarise)
        # The last but one: the evaluation at the end is no step.
        return (args.steps - 1) / (ends.ends[-1] - ends.ends[0])

    bare()
    rounds = [(bare(), looped(number)) for number in range(args.rounds)]
    return {
        "bare_steps_per_second": round(statistics.median(a for a, _ in rounds), 3),
        "loop_steps_per_second": round(statistics.median(b for _, b in rounds), 3),
        "loop_of_bare": round(statistics.median(b / a for a, b in rounds), 3),
        "loop_of_bare_rounds": [round(b / a, 3) for a, b in rounds],
    }


def waiting(args):
    output = train(args, f"--flagfile={QUICKSTART}", "--workdir=waiting", "--steps=300")
    speed, share = re.search(r"\((\S+) samples/s, (\S+)% waiting for data\)", output).groups()
    return {"quickstart_samples_per_second": float(speed), "waiting_percent": float(share)}


class Memory(keras.callbacks.Callback):
    """Prints the process's resident memory every 500 steps."""

    def on_train_batch_end(self, batch, logs=None):
        if (batch + 1) % 500 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            print(f"memory {batch + 1} {pages * os.sysconf('SC_PAGESIZE')}", flush=True)


def memory(args):
    output = train(
        args, "--model=tiny", "--workdir=memory", "--models_per_category=5", "--batch_size=2",
        "--num_views=1..3", f"--steps={args.memory_steps}", "--evaluate_every_steps=500",
        "--callbacks=training:Memory",
    )  # fmt: skip
    sizes = {int(step): int(size) for step, size in re.findall(r"memory (\d+) (\d+)", output)}
    first, last = sizes[min(sizes)], sizes[max(sizes)]
    return {
        "memory_mb": {step: round(size / 1e6) for step, size in sizes.items()},
        "memory_growth": round(last / first - 1, 4),
    }


class FirstStep(keras.callbacks.Callback):
    """Prints when the first step of the process has ended."""

    def on_train_batch_end(self, batch, logs=None):
        if not hasattr(self, "seen"):
            self.seen = True
            print(f"first {time.time()}", flush=True)


def resume(args):
    seconds = {"start": [], "resume": []}
    flags = (
        f"--flagfile={QUICKSTART}", "--callbacks=training:FirstStep", "--evaluate_every_steps=1000",
    )  # fmt: skip
    train(args, *flags, "--workdir=unused", "--steps=1")  # makes the data
    for number in range(args.rounds):
        for name, steps in (("start", 2), ("resume", 4)):
            began = time.time()
            output = train(args, *flags, f"--workdir=resume{number}", f"--steps={steps}")
            seconds[name].append(float(re.search(r"first (\S+)", output)[1]) - began)
    return {
        "first_step_seconds": {
            name: round(statistics.median(values), 2) for name, values in seconds.items()
        },
        "resume_more_seconds": round(
            statistics.median(b - a for a, b in zip(*seconds.values(), strict=True)), 2
        ),
    }


def train(args, *flags):
    """Runs the command in `out`; gives what it printed."""
    here = str(Path(__file__).parent)
    result = subprocess.run(
        [sys.executable, "-m", "r2n2_keras.train", *flags],
        cwd=args.out,
        env={**os.environ, "PYTHONPATH": here},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return result.stdout


if __name__ == "__main__":
    main()
