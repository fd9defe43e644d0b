"""Measures how long training takes to start on prepared data of 40,000 models.

    python benchmarks/start.py --out=DIR

Writes prepared data of 40,000 models with 24 views each to DIR, with the same few small pictures
for all, then starts `r2n2_keras.train --dry_run` on them. Prints one JSON object: seconds from the
start of a process until its first batch is there (the import of TensorFlow included, and apart),
and of the whole command with its two steps.
"""

import argparse
import io
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

from r2n2_keras.data import binvox, shards, splits
from r2n2_keras.data.categories import SYNSET_IDS
from r2n2_keras.preparation import shard_writer

VIEWS = 24
FIRST_BATCH = """
import os, sys, time
started = time.perf_counter()
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow
imported = time.perf_counter()
from r2n2_keras.data import pipeline, shards
from r2n2_keras.model.image_spec import ImageSpec
models = shards.read_prepared(sys.argv[1]).parts["train"]
batches = pipeline.training_batches(
    models, ImageSpec(64, 3, 240), pipeline.Sampling(24, (1, 5)), steps=100
)
images, voxels = next(iter(batches))
now = time.perf_counter()
print(len(models), now - started, imported - started)
"""


def write_data(folder, count):
    """Prepared data of small stand-in records."""
    rng = np.random.default_rng(0)
    pngs = []
    for _ in range(VIEWS):
        file = io.BytesIO()
        pixels = np.kron(rng.integers(0, 256, (4, 4, 4), dtype=np.uint8), np.ones((16, 16, 1)))
        Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
        pngs.append(file.getvalue())
    views = {f"{number:02d}": png for number, png in enumerate(pngs)}
    voxels = binvox.encode(binvox.Voxels(np.arange(32**3).reshape([32] * 3) % 977 < 400))
    synset_ids = sorted(SYNSET_IDS.values())
    keys = [
        (synset_ids[number * len(synset_ids) // count], f"{number:032x}") for number in range(count)
    ]
    parts = splits.assign(keys)
    with shard_writer.ShardWriter(str(folder)) as writer:
        for key in keys:
            writer.write(parts[key], key, views, voxels=voxels)
        writer.finish(parts, {"split_rule": "r2n2"})


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, type=pathlib.Path, help="Folder of the data.")
    parser.add_argument("--models", default=40_000, type=int)
    args = parser.parse_args()
    folder = args.out / f"prepared-{args.models}"
    if not (folder / shards.MANIFEST).exists():
        write_data(folder, args.models)

    command = [sys.executable, "-c", FIRST_BATCH, str(folder)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    models, seconds, imports = output.split()
    command = [sys.executable, "-m", "r2n2_keras.train", "--dry_run", "--model=tiny"]
    command += [f"--data_dir={folder}", "--num_views=1..5"]
    started = time.perf_counter()
    subprocess.run(command, stdout=sys.stderr, check=True)
    report = {
        "models": args.models,
        "training_models": int(models),
        "first_batch_s": round(float(seconds), 1),
        "of_which_importing_tensorflow_s": round(float(imports), 1),
        "train_dry_run_s": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
