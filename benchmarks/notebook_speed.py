"""Speed of the preset `notebook` beside the PyTorch notebook's own network, in one run.

    make setup-torch
    .venv/bin/python benchmarks/notebook_speed.py

Rounds of one process each: PyTorch, float32, mixed_bfloat16, in turn, so that whatever else the
machine does meets all three. Prints the median seconds of a training step (all views through, Adam
included), of a forward pass and of `model.step`, and their ratios; beside the forward pass what its
multiplications would take at the rate of a large matrix product in the same process. Then the time
that `res_gru_3` takes to be built and called for the first time.
"""

import argparse
import itertools
import json
import math
import pathlib
import statistics
import subprocess
import sys
import time

PRECISIONS = ("float32", "mixed_bfloat16")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="of each time in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--baseline", default=pathlib.Path(__file__).with_name("notebook_torch.py"))
    parser.add_argument("--measure", choices=(*PRECISIONS, "first_call"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure == "first_call":
        print(json.dumps(first_call()))
    elif args.measure:
        print(json.dumps(measure(args)))
    else:
        compare(args)


def compare(args):
    sizes = [f"--batch={args.batch}", f"--views={args.views}"]
    repeats = f"--repeats={args.repeats}"
    commands = {"torch": [args.baseline, *sizes, repeats]}
    for precision in PRECISIONS:
        commands[precision] = [__file__, *sizes, repeats, f"--measure={precision}"]
    rounds = {name: [] for name in commands}
    for n in range(args.rounds):
        for name, command in commands.items():
            rounds[name].append(run(command))
            print(f"round {n + 1}, {name}: {rounds[name][-1]}", file=sys.stderr)
    median = {
        name: {key: statistics.median(r[key] for r in results) for key in results[0]}
        for name, results in rounds.items()
    }
    print(f"Batch {args.batch}, {args.views} views, medians of {args.rounds} rounds, seconds:\n")
    print(f"{'':16}{'train':>8}{'/torch':>8}{'forward':>10}{'/torch':>8}{'/product':>10}", end="")
    print(f"{'step':>8}{'/forward':>10}")
    for name, times in median.items():
        print(f"{name:16}", end="")
        for key, width in (("train", 8), ("forward", 10)):
            print(f"{times[key]:{width}.3f}{times[key] / median['torch'][key]:8.2f}", end="")
        if name != "torch":
            print(f"{times['forward'] / times['product']:10.2f}", end="")
            print(f"{times['step']:8.3f}{times['step'] / times['forward']:10.2f}", end="")
        print()
    times = run([__file__, "--measure=first_call"])
    print(f"\nres_gru_3: {', '.join(f'{key} {value:.1f} s' for key, value in times.items())}")


def run(command):
    """What a script's last line of output holds."""
    process = subprocess.run(
        [sys.executable, *map(str, command)], stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(process.stdout.splitlines()[-1])


def measure(args):
    import keras
    import tensorflow as tf

    from r2n2_keras.model.r2n2 import R2N2
    from r2n2_keras.training import steps

    keras.mixed_precision.set_dtype_policy(args.measure)
    model = R2N2.from_preset("notebook")
    images = tf.random.uniform((args.batch, args.views, 137, 137, 4))
    voxels = tf.cast(tf.random.uniform((args.batch, 32, 32, 32)) > 0.5, tf.float32)
    optimizer = steps.make_optimizer(5e-5, args.measure)
    optimizer.build(model.trainable_variables)
    strategy = tf.distribute.get_strategy()
    train_step = steps.make_train_step(
        strategy, model, optimizer, batch_size=args.batch, threshold=0.4
    )
    go_on = tf.constant(0.0)
    forward = tf.function(lambda: model(images))
    state = model.step(None, images[:, 0])
    add_view = tf.function(lambda: model.step(state, images[:, 1]))
    matrix = tf.cast(tf.random.normal((4096, 4096)), model.compute_dtype)
    product = tf.function(lambda: tf.reduce_max(matrix @ matrix))
    rate = 4096**3 / median_seconds(product, args.repeats)
    return {
        "train": median_seconds(lambda: train_step(images, voxels, go_on), args.repeats),
        "forward": median_seconds(forward, args.repeats),
        "product": multiplications(model, args.batch, args.views) / rate,
        "step": median_seconds(add_view, args.repeats),
    }


def median_seconds(function, repeats):
    import tensorflow as tf

    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        tf.nest.map_structure(lambda tensor: tensor.numpy(), function())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])  # the first one builds the graph


def multiplications(model, batch, views):
    """How many products of two numbers a forward pass takes, the fused form's where one is used."""
    from r2n2_keras.model.layers import UpsampleConv3D

    total = 0
    for layer in model.layers:
        if not layer.weights:
            continue
        weights = math.prod(layer.weights[0].shape)  # each meets every cell of the output
        grid = layer.output.shape[1:-1]
        if layer.name.startswith("encoder"):
            total += weights * math.prod(grid) * batch * views
        elif layer.name == "recurrence_gate_inputs":
            total += weights * batch * views
        elif layer.name == "recurrence":
            total += weights * math.prod(grid) * batch * views
        elif isinstance(layer, UpsampleConv3D):
            total += weights * 8 / 27 * math.prod(grid) * batch  # nearest, 3x3x3
        else:
            total += weights * math.prod(grid) * batch
    return total


def first_call():
    marks = [time.perf_counter()]
    import numpy as np

    from r2n2_keras.model.r2n2 import R2N2

    marks.append(time.perf_counter())
    model = R2N2.from_preset("res_gru_3")
    marks.append(time.perf_counter())
    model.predict(np.zeros((1, 3, 127, 127, 3), "float32"), verbose=0)
    marks.append(time.perf_counter())
    seconds = (after - before for before, after in itertools.pairwise(marks))
    return dict(zip(("import", "build", "first call"), seconds, strict=True))


if __name__ == "__main__":
    main()
