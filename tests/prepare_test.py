"""The command `prepare`: its flags, what it prints, and what it does with hostile archives."""

import dataclasses
import io
import json
import os
import re
import tracemalloc

import packed
import peak_memory
import pytest
from commands import fail, process, succeed
from packed import CHAIR, TABLE
from rich.console import Console

from r2n2_keras.data import splits
from r2n2_keras.preparation import prepare_summary
from r2n2_keras.terminal import Bar

FILES = packed.files()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder, made the current one, with the archives, one of both kinds, and the tree."""
    monkeypatch.chdir(tmp_path)
    packed.write_tar("r.tgz", packed.half(FILES, "ShapeNetRendering").items())
    packed.write_tar("v.tgz", packed.half(FILES, "ShapeNetVox32").items())
    packed.write_tar("both.tgz", FILES.items())
    packed.write_tree("tree", FILES)
    return tmp_path


def run(*flags):
    """What the command prints."""
    return succeed("prepare", *flags, cwd=".")


def refused(*flags):
    """The line with which the command refuses."""
    return fail("prepare", *flags, cwd=".")


def everything(folder):
    """All files and folders below one, with their content."""
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


ARCHIVES = ("--renderings=r.tgz", "--voxels=v.tgz")


def test_the_main_job(home):
    result = process("prepare", *ARCHIVES, "--out=out", cwd=home)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert ["chair", "3", "1", "2", "6"] in [re.findall(r"\w+", line) for line in lines]
    assert "Wrote 9 models with 27 renderings to out: 6 shards," in result.stdout
    assert "Left out: nothing." in lines
    # Not of GB: README promises less than one.
    assert re.search(r"Read .* kB in .* s, .*/s; peak memory [\d.]+ MB\.", result.stdout)
    assert lines[-1] == "Next: python -m r2n2_keras.train --data_dir=out --workdir=runs/mine"
    assert "\x1b" not in result.stdout  # no bar, no colours where there is no terminal
    assert packed.of_shards("out") == packed.of_tree("tree")

    before = everything(home)
    message = "error: Expected --out to be a new or empty folder, received out"
    assert refused(*ARCHIVES, "--out=out").startswith(message)
    assert everything(home) == before


@pytest.mark.parametrize(
    "flags",
    [
        ("--data_dir=tree",),
        ("--data_dir=tree", "--voxels=v.tgz"),
        ("--data_dir=tree", "--voxels_dir=ShapeNetVox32", "--renderings=r.tgz"),
    ],
)
def test_whichever_way_the_data_come(home, flags):
    run(*flags, "--out=out")
    assert packed.of_shards("out") == packed.of_tree("tree")


def test_what_to_keep(home):
    (home / "out").mkdir()
    (home / "exclude.txt").write_text(f"{CHAIR}/m1  # a comment\n")
    output = run(
        *ARCHIVES, "--out=out", "--categories=chair", "--exclude=exclude.txt", "--limit=4",
        "--views=1,2,9", "--split=random", "--split_seed=5",
    )  # fmt: skip
    found = packed.of_shards("out")
    assert len(found) == 4
    assert all(key.startswith(CHAIR) and not key.endswith("m1") for _, key in found)
    assert all(set(views) == {"01", "02"} for _, views in found.values())
    manifest = json.loads((home / "out" / "manifest.json").read_text())
    assert manifest["split_rule"] == "random (seed 5)"
    assert manifest["sources"] == {"renderings": "r.tgz", "voxels": "v.tgz"}
    assert "Wrote 4 models with 8 renderings" in output
    assert "Left out: excluded models (1)." in output
    assert "No model has the views 9 of --views." in output


def test_bad_samples_are_skipped_on_request(home):
    name = f"ShapeNetRendering/{CHAIR}/m4/rendering/01.png"
    packed.write_tar("bad.tgz", {**FILES, name: packed.png()[:-20]}.items())
    flags = ("--renderings=bad.tgz", "--voxels=bad.tgz", "--out=out")
    message = f"{name} in bad.tgz: expected a PNG, received one that cannot be decoded"
    line = refused(*flags)
    assert line.startswith(f"error: {message}") and "--on_bad_sample=skip" in line
    assert not (home / "out").exists()
    output = run(*flags, "--on_bad_sample=skip")
    assert "Left out: models with unusable files (1)." in output and message in output
    assert len(packed.of_shards("out")) == 8


def test_overwriting_removes_only_what_it_wrote(home):
    run(*ARCHIVES, "--out=out")
    flags = (*ARCHIVES, "--out=out", "--categories=table")
    assert "--overwrite to replace them" in refused(*flags)
    output = run(*flags, "--overwrite")
    assert "Removed the prepared data that were in out (8 files)." in output
    shards = {f"{split}-{TABLE}-00000.tfrecord" for split in splits.SPLITS}
    assert set(os.listdir("out")) == {"index.csv", "manifest.json", *shards}
    assert len(packed.of_shards("out")) == 3
    (home / "out" / "notes.txt").write_text("mine")
    before = everything(home)
    assert "holds 'notes.txt'" in refused(*flags, "--overwrite")
    assert everything(home) == before


def test_wrong_sources_do_not_cost_what_was_there(home):
    run(*ARCHIVES, "--out=out")
    before = everything(home / "out")
    (home / "text.tgz").write_text("no archive")
    flags = ("--voxels=v.tgz", "--out=out", "--overwrite")
    for renderings in ("text.tgz", "absent.tgz"):
        assert renderings in refused(f"--renderings={renderings}", *flags)
    assert everything(home / "out") == before


def test_what_an_unfinished_run_left_is_removed(home):
    run(*ARCHIVES, "--out=out")
    before = everything(home / "out")
    (home / "out" / "manifest.json").unlink()
    shard = home / "out" / f"train-{CHAIR}-00000.tfrecord"
    shard.rename(shard.with_suffix(".tfrecord.partial"))
    (home / "out" / f"train-{TABLE}-00007.tfrecord").write_bytes(b"from another run")
    output = run(*ARCHIVES, "--out=out")
    assert "Removed what an unfinished run had left in out (8 files)." in output
    assert everything(home / "out") == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (ARCHIVES, "Expected --out=DIR"),
        (("--out=o",), "no --renderings and no --voxels. Give archives or folders"),
        (("--out=o", "--voxels=v.tgz"), "received no --renderings. Give"),
        ((*ARCHIVES, "--out=o", "--split=test"), "--split=r2n2|pix2vox|random of prepare"),
        (("--out=o", "--data_dir=nowhere"), "--data_dir=nowhere, which does not exist"),
        ((*ARCHIVES, "--out=r.tgz"), "received the file r.tgz"),
        ((*ARCHIVES, "--out=tree"), "holds 'ShapeNet"),
        ((*ARCHIVES, "--out=o", "--categories=charr"), "received charr"),
        ((*ARCHIVES, "--out=o", "--exclude=nowhere"), "--exclude=nowhere, which does not exist"),
        (("--renderings=v.tgz", "--voxels=r.tgz", "--out=o"), "swapped?"),
        (("--renderings=zz://r.tgz", "--voxels=v.tgz", "--out=o"), "zz://r.tgz"),
        ((*ARCHIVES, "--out=zz://o"), "zz://o"),
        ((*ARCHIVES, "--out=r.tgz/o"), "r.tgz/o"),
    ],
)
def test_what_it_needs(home, flags, message):
    before = everything(home)
    assert message in refused(*flags)
    assert everything(home) == before


def test_prepared_data_are_no_tree(home):
    run(*ARCHIVES, "--out=out")
    assert "which is prepared data. Train on it" in refused("--data_dir=out", "--out=o")
    assert "Expected --voxels with files" in refused("--renderings=out", "--voxels=out", "--out=o")


# Hostile archives: a line that names the member, nothing written but --out, bounded memory.

HOSTILE = {
    "../evil.png": b"",
    f"ShapeNetRendering/{CHAIR}/m0/rendering/00.png": packed.png(width=60_000, height=60_000),
    # About as many runs as a file may have: a reader that expands them needs two gigabytes.
    f"ShapeNetVox32/{CHAIR}/m0/model.binvox": (
        b"#binvox 1\ndim 32 32 32\ndata\n" + b"\1\xff" * (7 << 20)
    ),
}


@pytest.mark.parametrize(("name", "content"), HOSTILE.items(), ids=HOSTILE)
def test_hostile_archives(home, name, content):
    packed.write_tar("evil.tgz", {**FILES, name: content}.items())
    before = everything(home)
    tracemalloc.start()
    try:
        line = refused("--renderings=evil.tgz", "--voxels=evil.tgz", "--out=out")
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert name in line and "evil.tgz" in line
    assert everything(home) == before


def test_truncated_archives(home):
    whole = (home / "both.tgz").read_bytes()
    for end in range(0, len(whole), 1000):
        (home / "cut.tgz").write_bytes(whole[:end])
        # The voxels are whole, and the writing may have begun.
        line = refused("--renderings=cut.tgz", "--voxels=v.tgz", "--out=out")
        assert "cut.tgz, which cannot be read" in line
        assert not (home / "out").exists()


def test_memory_does_not_grow_with_the_renderings(tmp_path):
    """View after view of all models, the order that is worst."""
    peaks = []
    for views in (8, 30):  # from some 256 files on as many wait for the check as may
        members = [
            (f"{CHAIR}/m{model}/rendering/{view:02d}.png", packed.png("x" * 3000))
            for view in range(views)
            for model in range(50)
        ]
        members += [(f"{CHAIR}/m{model}/model.binvox", packed.voxels(model)) for model in range(50)]
        both = packed.write_tar(tmp_path / f"{views}.tar", members, "w:")
        del members
        peaks.append([])
        for attempt in range(3):  # how far the threads are apart changes by chance
            tracemalloc.start()
            packed.prepare(both, both, tmp_path / f"{views}-{attempt}", max_waiting=100_000)
            peaks[-1].append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert min(peaks[1]) < min(peaks[0]) + 100_000


# The terminal.


def test_the_bar_on_a_terminal(home):
    file = io.StringIO()
    with Bar(Console(file=file, force_terminal=True, width=90)) as bar:
        progress = prepare_summary.Progress(bar)
        packed.prepare("r.tgz", "v.tgz", "out", progress=progress, say=bar.say)
        bar.say("a line [with brackets]")
    output = file.getvalue()
    assert "voxels: " in output
    assert re.search(r"renderings: \d models, \d+ MB/s", output)
    assert "a line [with brackets]" in output


def test_scattered_models_and_many_bytes_are_told(home, capsys):
    result = packed.prepare("both.tgz", "both.tgz", "out", max_waiting=0)
    result = dataclasses.replace(result, volume=2_500_000_000)
    prepare_summary.print_summary(result, "out", 1.0)
    output = capsys.readouterr().out
    assert "lay far apart: 36 records" in output
    assert "Read 2.5 GB in 1.0 s, 2.5 GB/s;" in output


def test_peak_memory():
    size, page = 200 << 20, os.sysconf("SC_PAGE_SIZE")
    with peak_memory.below(2 * size):
        before = prepare_summary.peak_memory()
        block = bytearray(size)
        block[::page] = b"1" * (size // page)  # else the system only promises it
        assert prepare_summary.peak_memory() - before > size / 2
