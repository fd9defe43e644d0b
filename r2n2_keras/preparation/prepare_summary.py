"""What `prepare` shows: how far it is, and a summary at the end."""

import resource
import shlex
import sys
import time

from rich.filesize import decimal

from r2n2_keras.data.categories import category_of
from r2n2_keras.data.objects import SPLITS
from r2n2_keras.preparation.archives import Source
from r2n2_keras.preparation.conversion import Result
from r2n2_keras.terminal import count, print_table


class Progress:
    """Shows on a `terminal.Bar` how far `prepare` is; called as `conversion.Progress`."""

    def __init__(self, bar):
        self._bar = bar
        self._stage = ""
        self._started = 0.0

    def __call__(self, stage: str, source: Source, models: int, total: int) -> None:
        """Shows a stage; a folder's size is not known, but its number of models is."""
        if stage != self._stage:
            self._stage, self._started = stage, time.monotonic()
            self._bar.begin()
        done, size = (source.done, source.size) if source.size else (models, total)
        rate = source.volume / 1e6 / max(time.monotonic() - self._started, 1e-3)
        self._bar.update(done, size or None, f"{stage}: {models:,} models, {rate:.0f} MB/s")


def print_summary(result: Result, out: str, seconds: float) -> None:
    """Shows what was prepared, what was left out and what to do next."""
    manifest = result.manifest
    _print_models(manifest["models"])
    counts = [part["models"] for parts in manifest["models"].values() for part in parts.values()]
    shards = manifest["shards"]
    size = sum(shard["bytes"] for shard in shards) + manifest["index"]["bytes"]
    print(
        f"Wrote {count(sum(counts), 'model')} with {count(result.renderings, 'rendering')} to "
        f"{out}: {count(len(shards), 'shard')}, {decimal(size)}, split {manifest['split_rule']}."
    )
    records = sum(shard["records"] for shard in shards)
    if records > 2 * sum(counts):
        print(
            f"The files of a model lay far apart: {count(records, 'record')}, which training "
            "reads more slowly. An archive that goes model by model gives one record of each."
        )
    left_out = ", ".join(f"{what} ({n:,})" for what, n in manifest["left_out"].items())
    print(f"Left out: {left_out or 'nothing'}.")
    for error in result.bad_files:
        print(f"  {error}")
    if result.absent_views:
        print(f"No model has the views {', '.join(map(str, result.absent_views))} of --views.")
    speed, peak = decimal(int(result.volume / seconds)), decimal(peak_memory())
    print(f"Read {decimal(result.volume)} in {seconds:,.1f} s, {speed}/s; peak memory {peak}.")
    print(f"Next: python -m r2n2_keras.train --data_dir={shlex.quote(out)} --workdir=runs/mine")


def peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    try:
        # Not `getrusage`: it counts what the process that started this one had.
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _print_models(models):
    rows = {}
    for split, parts in models.items():
        for synset_id, part in parts.items():
            rows.setdefault(synset_id, dict.fromkeys(SPLITS, 0))[split] = part["models"]
    lines = [
        (category_of(synset_id), *counts.values()) for synset_id, counts in sorted(rows.items())
    ]
    lines.append(("all", *map(sum, list(zip(*lines, strict=True))[1:])))
    print_table(
        ["category", *SPLITS, "all"],
        [[name, *(f"{n:,}" for n in (*counts, sum(counts)))] for name, *counts in lines],
        title="Models",
    )
