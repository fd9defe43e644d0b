"""Measures the training input beside bare PNG decoding and beside the notebook's data loading.

    make setup-torch
    .venv/bin/python benchmarks/input_pipeline.py --out=DIR

Makes a data set in DIR (chairs, tables, sofas and lamps; 24 views of 137 pixels), prepares it,
and measures in turn, in one process, on all cores:

* decode_1, decode_5: `tf.io.decode_png` alone of the same renderings, held in memory, in a tf.data
  pipeline whose elements are one picture or five;
* shards, tree: batches of 24 samples of 5 views at 127 pixels with all augmentation, from prepared
  data and from the tree that they were prepared from;
* shards_test: the same without augmentation;
* notebook: the notebook's Dataset (all renderings in a model's folder, as float32, and its voxels)
  in PyTorch's DataLoader(num_workers=2), where PyTorch is installed. Pillow, which is faster,
  decodes in place of torchvision.

Prints one JSON object: pictures and samples per second, medians of the rounds, and the ratios.
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from PIL import Image

from r2n2_keras.data import pipeline, shards, splits
from r2n2_keras.data.augmentation import NO_AUGMENTATION, Augmentation
from r2n2_keras.data.pipeline import Sampling
from r2n2_keras.data.trees import list_objects
from r2n2_keras.model.image_spec import ImageSpec

BATCH, VIEWS = 24, 5
IMAGE_SPEC = ImageSpec(image_size=127, channels=3, background=240)
AUGMENTATION = Augmentation(
    random_crop=True, random_flip=True, random_background=(225, 255), color_jitter=0.2
)


def run(command, *flags):
    """Runs a command of the package; its output goes to standard error."""
    command = [sys.executable, "-m", f"r2n2_keras.{command}", *flags]
    subprocess.run(command, stdout=sys.stderr, check=True)


def make_data(folder, models_per_category):
    """The tree and the data prepared from it, made once."""
    tree, prepared = folder / "tree", folder / "prepared"
    if not tree.exists():
        run("synthesize", f"--out={tree}", f"--models_per_category={models_per_category}")
    if not (prepared / shards.MANIFEST).exists():
        run("prepare", f"--data_dir={tree}", f"--out={prepared}")
    return tree, prepared


def decoding(contents, per_element):
    """An endless dataset that decodes pictures and does nothing else."""
    count = len(contents)
    contents = tf.constant(contents)

    def decode(number):
        return [
            tf.io.decode_png(contents[(number * per_element + place) % count], channels=4)
            for place in range(per_element)
        ]

    dataset = tf.data.Dataset.range(2**60)
    return dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def training(models, augmentation):
    """An endless training stream."""
    sampling = Sampling(BATCH, (VIEWS, VIEWS), augmentation=augmentation)
    return pipeline.training_batches(models, IMAGE_SPEC, sampling)


class NotebookDataset:
    """The notebook's Dataset: every rendering in a model's folder, and its voxels."""

    def __init__(self, models):
        self.models = models

    def __len__(self):
        return len(self.models)

    def __getitem__(self, index):
        import torch

        files = self.models[index].files
        folder = files.renderings_path
        names = [name for name in os.listdir(folder) if name.endswith(".png")]
        views = [
            torch.from_numpy(np.array(Image.open(f"{folder}/{name}"))).permute(2, 0, 1)
            for name in names
        ]
        with open(files.voxels_path, "rb") as file:
            runs = np.frombuffer(file.read().partition(b"\ndata\n")[2], np.uint8)
        grid = np.repeat(runs[0::2], runs[1::2]).reshape(32, 32, 32)
        return torch.tensor(grid).to(torch.float32), torch.stack(views).to(torch.float32) / 255.0


def notebook_batches(models):
    """An endless stream of the notebook's batches of 8."""
    import torch

    while True:
        yield from torch.utils.data.DataLoader(
            NotebookDataset(models), batch_size=8, num_workers=2, shuffle=True
        )


def rates(streams, seconds, rounds):
    """Elements per second of each stream: the median of rounds in which they take turns."""
    iterators = {name: iter(stream) for name, stream in streams.items()}
    found = {name: [] for name in streams}
    for name, _ in itertools.product(streams, range(3)):
        next(iterators[name])
    for _, (name, iterator) in itertools.product(range(rounds), iterators.items()):
        # What was made ahead while others had their turn does not count.
        started = time.perf_counter()
        while time.perf_counter() - started < seconds / 4:
            next(iterator)
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            next(iterator)
            count += 1
        found[name].append(count / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in found.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, type=pathlib.Path, help="Folder of the data.")
    parser.add_argument("--models_per_category", default=50, type=int)
    parser.add_argument("--seconds", default=4.0, type=float, help="Of a turn.")
    parser.add_argument("--rounds", default=5, type=int)
    args = parser.parse_args()

    tree, prepared = make_data(args.out, args.models_per_category)
    from_tree = splits.split_objects(*list_objects(str(tree))).parts["train"]
    from_shards = shards.read_prepared(str(prepared)).parts["train"]
    contents = [model.files.read_view(view) for model in from_tree for view in model.views]
    streams = {
        "decode_1": decoding(contents, 1),
        "decode_5": decoding(contents, VIEWS),
        "shards": training(from_shards, AUGMENTATION),
        "shards_test": training(from_shards, NO_AUGMENTATION),
        "tree": training(from_tree, AUGMENTATION),
    }
    pictures = {"decode_1": 1, "decode_5": VIEWS}
    rate = rates(streams, args.seconds, args.rounds)
    per_second = {name: rate[name] * pictures.get(name, BATCH * VIEWS) for name in streams}
    samples = {name: rate[name] * BATCH for name in ("shards", "shards_test", "tree")}
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: the notebook's loading is left out.", file=sys.stderr)
    else:
        torch.set_num_threads(1)
        notebook = notebook_batches(from_tree)
        samples["notebook"] = (
            8 * rates({"notebook": notebook}, args.seconds, args.rounds)["notebook"]
        )
    report = {
        "pictures": len(contents),
        "mean_bytes": round(sum(map(len, contents)) / len(contents)),
        "pictures_per_second": {name: round(value) for name, value in per_second.items()},
        "samples_per_second": {name: round(value, 1) for name, value in samples.items()},
        "ratios": {
            "shards / decode_1": round(per_second["shards"] / per_second["decode_1"], 2),
            "shards / decode_5": round(per_second["shards"] / per_second["decode_5"], 2),
        },
    }
    if "notebook" in samples:
        ratio = samples["shards"] / samples["notebook"]
        report["ratios"]["shards / notebook, samples"] = round(ratio, 1)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
