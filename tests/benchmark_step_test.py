"""benchmarks/step.py: a narrow network's training step under each backend, as a user runs it."""

import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest

from r2n2_keras.model.layers import UpsampleConv3D

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "step.py"
NO_TORCH = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs PyTorch")
BACKENDS = ["tensorflow", "jax", pytest.param("torch", marks=NO_TORCH)]
SIZES = ["--presets=notebook", "--views=2", "--precision=float32", "--repeats=1", "--steps=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function: the lines and the rows that the script prints under a backend.

    Only TensorFlow's own backend finds a TensorFlow that can be imported.
    """
    stub = tmp_path_factory.mktemp("stub")
    asked = stub / "asked"
    (stub / "tensorflow.py").write_text(
        f"open({str(asked)!r}, 'w').close()\nraise ImportError('TensorFlow is not to be imported')"
    )

    @functools.cache
    def run(backend):
        # On a CPU, JAX takes most of its time to compile the initializers, one for each shape.
        flags = "--xla_backend_optimization_level=0"
        env = {**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": flags}
        if backend != "tensorflow":
            path = [str(stub), *filter(None, [env.get("PYTHONPATH")])]
            env["PYTHONPATH"] = os.pathsep.join(path)
        batches = "2,1000000000000" if backend == "jax" else "2"
        command = [sys.executable, SCRIPT, "--narrow", *SIZES, f"--batches={batches}"]
        process = subprocess.run(command, env=env, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        assert not asked.exists()
        lines = process.stdout.splitlines()
        return lines, json.loads(lines[-1])["rows"]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_positive_numbers_and_the_losses_of_tensorflow(run, backend):
    lines, (row, *others) = run(backend)
    assert (row["backend"], row["preset"], row["views"]) == (backend, "notebook", 2)
    for key in ("seconds", "samples_per_second", "tflops", "peak_tflops", "first_call_seconds"):
        assert row[key] > 0
    assert row["samples_per_second"] == pytest.approx(2 / row["seconds"])
    assert 0 < row["share_of_peak"] <= 1.2
    title, rule, cells = (line.split("|")[1:-1] for line in lines[:3])
    assert len(title) == len(rule) == len(cells)
    assert backend in cells[1]
    # The first loss shows that the forward pass is the same, the last that the update is.
    expected = run("tensorflow")[1][0]
    assert expected["last_loss"] < expected["first_loss"]
    for name in ("first_loss", "last_loss"):
        assert row[name] == pytest.approx(expected[name], abs=1e-6)
    if backend == "jax":  # which gets a batch that fits nowhere, too
        assert "| out of memory |" in lines[3]
        assert others[0]["error"] == "out of memory"
        assert "seconds" not in others[0]


@pytest.fixture(scope="module")
def step():
    spec = importlib.util.spec_from_file_location("benchmark_step", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("upsampling", "taps"), [("zeros", 3**3), ("nearest", 4**3)])
def test_upsampling_counts_as_it_is_computed(step, upsampling, taps):
    layer = UpsampleConv3D(2, upsampling=upsampling)
    layer(keras.Input((4, 4, 4, 5)))
    assert step.multiplications(layer, batch=3, views=7) == pytest.approx(3 * 4**3 * taps * 5 * 2)


@pytest.mark.parametrize(
    ("device", "precision", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "mixed_bfloat16", 989),
        ("NVIDIA H100 80GB HBM3", "float32", 494),
        ("NVIDIA H100 PCIe", "mixed_bfloat16", 756),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "mixed_bfloat16", None),
        ("NVIDIA A100-SXM4-80GB", "mixed_float16", 312),
        ("NVIDIA A10G", "mixed_bfloat16", None),
        ("NVIDIA L40S", "mixed_bfloat16", 362),
        ("Tesla T4", "mixed_float16", 65),
        ("Tesla V100-PCIE-16GB", "mixed_bfloat16", None),
        ("CPU with an L4 cache", "mixed_bfloat16", None),
    ],
)
def test_peak_of_a_card(step, device, precision, peak):
    assert step.known_peak(device, precision) == peak


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_is_told_from_other_errors(step, error):
    assert step.is_out_of_memory(error)
    assert not step.is_out_of_memory(ValueError("shapes do not match"))
