"""Speed and memory of `prepare` on stand-in archives of the original's sizes.

    python benchmarks/prepare.py --out=DIR

On one processor core: how fast `prepare` reads archives of 500 and 2,000 models with 24 renderings,
in their usual order and shuffled, beside `tar -xzf ARCHIVE -O > /dev/null`, with and without the
seconds that TensorFlow takes to start; and the peak memory of each, and of as many models as the
original has (43,784) with tiny renderings that come in the worst order, all first views first.

The stand-in renderings are some of the package's furniture with noise, 6.6 KB on average, under
many names. Prints a table and writes DIR/prepare.json.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from r2n2_keras.shapes import dataset

SYNSET_IDS = ("02691156", "03001627", "04256520", "04379243")
VIEWS = 24
FULL_SET = 43_784


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the archives")
    parser.add_argument("--models", type=int, default=2_000, help="of the other large rows")
    parser.add_argument("--full_set", type=int, default=FULL_SET, help="models of the last row")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pool = make_pool()
    rows = []
    sizes = ((args.models // 4, "usual"), (args.models, "usual"), (args.models, "shuffled"))
    for models, order in sizes:
        renderings, voxels = write_pair(args.out, pool, models, order)
        rows.append({"models": models, "order": order, **measure(renderings, voxels, args.repeats)})
    renderings, voxels = write_full_set(args.out, pool, args.full_set)
    full_set = measure(renderings, voxels, repeats=1)
    rows.append({"models": args.full_set, "order": "by view", **full_set})
    start = memory_of_start()
    show(rows, start)
    rows.append({"start_memory_mb": start})
    (args.out / "prepare.json").write_text(json.dumps(rows, indent=1) + "\n")


def make_pool():
    """Files of 40 models: (renderings, cameras, voxels) each."""
    rng = np.random.default_rng(0)
    pool = []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(10):
            for category in dataset.CATEGORIES:
                dataset.write_model(folder, category, index, VIEWS)
        for path in sorted(Path(folder).glob("ShapeNetRendering/*/*/rendering")):
            pngs = [with_noise(png, rng) for png in sorted(path.glob("*.png"))]
            voxels = Path(folder, "ShapeNetVox32", *path.parts[-3:-1], "model.binvox")
            cameras = (path / "rendering_metadata.txt").read_bytes()
            pool.append((pngs, cameras, voxels.read_bytes()))
    return pool


def with_noise(path, rng):
    """A rendering with so much noise that it takes as many bytes as the original's."""
    pixels = np.array(Image.open(path)).astype(int)
    noise = rng.integers(-1, 2, pixels.shape) * (pixels[..., 3:] > 0) * (1, 1, 1, 0)
    return encoded(np.clip(pixels + noise, 0, 255))


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_pair(out, pool, models, order):
    """The two archives, as paths."""
    members = []
    voxels = []
    for number in range(models):
        synset_id = SYNSET_IDS[number * len(SYNSET_IDS) // models]
        key = f"{synset_id}/{hashlib.md5(str(number).encode()).hexdigest()}"
        pngs, cameras, binvox = pool[number % len(pool)]
        folder = f"ShapeNetRendering/{key}/rendering"
        members += [(f"{folder}/{view:02d}.png", png) for view, png in enumerate(pngs)]
        members.append((f"{folder}/rendering_metadata.txt", cameras))
        voxels.append((f"ShapeNetVox32/{key}/model.binvox", binvox))
    if order == "shuffled":
        random.Random(0).shuffle(members)
    return (
        write_archive(out / f"renderings-{models}-{order}.tgz", members),
        write_archive(out / f"voxels-{models}-{order}.tgz", voxels),
    )


def write_full_set(out, pool, models):
    """As many models as the original has, in the order that is worst: view by view."""
    keys = [
        f"{SYNSET_IDS[number % 4]}/{hashlib.md5(str(number).encode()).hexdigest()}"
        for number in range(models)
    ]
    png = encoded(np.zeros((137, 137, 4)))  # a few hundred bytes
    renderings = (
        (f"ShapeNetRendering/{key}/rendering/{view:02d}.png", png)
        for view in range(VIEWS)
        for key in keys
    )
    voxels = (
        (f"ShapeNetVox32/{key}/model.binvox", pool[number % len(pool)][2])
        for number, key in enumerate(keys)
    )
    return (
        write_archive(out / "renderings-full.tgz", renderings, level=1),
        write_archive(out / "voxels-full.tgz", voxels, level=1),
    )


def write_archive(path, members, level=6):
    with gzip.open(path, "wb", level) as file, tarfile.open(fileobj=file, mode="w|") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            archive.members.clear()
    return path


def measure(renderings, voxels, repeats):
    """Runs `tar` and `prepare` in turn; the fastest runs count, as others only had to wait."""
    size = sum(unpacked_size(path) for path in {renderings, voxels})
    runs = []
    for _ in range(repeats):
        runs.append({**run_tar(renderings, voxels), **run_prepare(renderings, voxels)})
    best = {name: min(run[name] for run in runs) for name in runs[0]}
    tar_speed = size / best["tar_s"] / 1e6
    speed = size / best["prepare_s"] / 1e6
    return {
        "unpacked_mb": round(size / 1e6, 1),
        "tar_mb_per_s": round(tar_speed, 1),
        "prepare_mb_per_s": round(speed, 1),
        "prepare_with_start_mb_per_s": round(size / best["command_s"] / 1e6, 1),
        "ratio": round(speed / tar_speed, 2),
        "peak_memory_mb": round(max(run["peak_memory_mb"] for run in runs)),
        "runs": runs,
    }


def unpacked_size(path):
    size = 0
    with gzip.open(path, "rb") as file:
        while piece := file.read(1 << 18):
            size += len(piece)
    return size


def run_tar(*archives):
    started = time.perf_counter()
    for path in archives:
        subprocess.run(["tar", "-xzf", path, "-O"], stdout=subprocess.DEVNULL, check=True)
    return {"tar_s": round(time.perf_counter() - started, 2)}


def run_prepare(renderings, voxels):
    out = renderings.parent / "prepared"
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    output = subprocess.run(
        [sys.executable, "-m", "r2n2_keras.prepare", f"--renderings={renderings}",
         f"--voxels={voxels}", f"--out={out}"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    command = time.perf_counter() - started
    shutil.rmtree(out)
    pattern = r" in ([\d.,]+) s,.* peak memory ([\d.]+) (\w+)"
    seconds, peak, unit = re.search(pattern, output).groups()
    return {
        "prepare_s": float(seconds.replace(",", "")),
        "command_s": round(command, 2),
        "peak_memory_mb": float(peak) * {"MB": 1, "GB": 1000}[unit],
    }


def memory_of_start():
    """What TensorFlow takes before anything is read, in MB."""
    code = (
        "from r2n2_keras.preparation import conversion, prepare_summary; "
        "print(prepare_summary.peak_memory())"
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = subprocess.check_output([sys.executable, "-c", code], env=environment)
    return round(int(output) / 1e6)


def show(rows, start):
    title = f"prepare, on one core; the start alone takes {start} MB"
    table = Table(title=title, title_justify="left")
    columns = {
        "models": "models",
        "order": "order",
        "unpacked_mb": "MB",
        "tar_mb_per_s": "tar MB/s",
        "prepare_mb_per_s": "prepare",
        "prepare_with_start_mb_per_s": "with start",
        "ratio": "/ tar",
        "peak_memory_mb": "peak MB",
    }
    for header in columns.values():
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(str(row[name]) for name in columns))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
