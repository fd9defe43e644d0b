"""Speed of a whole training step under TensorFlow, JAX and PyTorch, for a card or a CPU.

    KERAS_BACKEND=jax python benchmarks/step.py --presets=notebook,res_gru_3 --batches=24,64,128,256

A step is the forward pass through all views, binary cross-entropy, the backward pass and Adam, on
a batch that lies in the device's memory. TensorFlow runs the step that `train` runs
(`r2n2_keras.training.steps`), JAX one compiled function that is given its weights to overwrite,
PyTorch runs the Keras model eagerly. TensorFlow is imported under its own backend only. Where the
package is not installed, `PYTHONPATH=.` stands in for it.

Prints a Markdown table and, last, one line of JSON with the same rows. Columns:

* s/step: the median over `--repeats` of the time of `--steps` steps, divided by their number. Only
  the last of these steps is waited for (`train` waits for each).
* first call: seconds of the first step, which traces and compiles. It and one repeat more are not
  part of s/step. The JSON has the losses of the first and of the last step, which are the same
  under every backend but for rounding: weights and batch are drawn by NumPy.
* TFLOP/s: two operations for each product of two numbers in the convolutions and dense layers of
  the form that is computed: upsampling and its convolution fused, all views' gate inputs in one
  product, the margins of zeros included. Three times those of the forward pass, once for the
  gradient of the inputs, once for that of the weights, less the gradient of the pictures, which
  nobody asks for. Nothing else is counted: no activations, no pooling, no Adam.
* peak: what the card's data sheet gives for dense products of this precision (float32: as TF32
  where the card has it, since convolutions use it by default), or `--peak_tflops`. For a CPU, a
  part of a card or an unknown one it is the rate of the fastest of some products of two large
  matrices of this precision (float16 on a CPU: float32, which it is computed in), measured in the
  same process after the steps.
* memory: GiB at the peak, where the backend tells. JAX takes three quarters of a card unless
  `XLA_PYTHON_CLIENT_MEM_FRACTION` says otherwise: a batch that needs more does not fit.

Each row is a process of its own: its peak memory is its own, and a batch that does not fit is a row
that says so.
"""

import argparse
import json
import math
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
LEARNING_RATE = 5e-5
OUT_OF_MEMORY = (
    "out of memory",
    "out_of_memory",
    "outofmemory",
    "oom when allocating",
    "resource_exhausted",
    "resourceexhausted",
    "status_alloc_failed",
    "can't allocate memory",
)

# Dense TFLOP/s of the data sheets; the first name that matches counts. None: not in hardware.
PEAKS = (
    # name, bfloat16, float16, float32 (TF32 where the card has it)
    (r"\bB200\b", 2250, 2250, 1125),
    (r"\bG?H200\b", 989, 989, 494),
    (r"\bH100 PCIe\b", 756, 756, 378),
    (r"\bH100 NVL\b", 835, 835, 417),
    (r"\bH100\b", 989, 989, 494),
    (r"\bA100\b", 312, 312, 156),
    (r"\bA40\b", 150, 150, 75),
    (r"\bA30\b", 165, 165, 82),
    (r"\bA10\b", 125, 125, 62),
    (r"\bL40S\b", 362, 362, 183),
    (r"\bL40\b", 181, 181, 90),
    (r"\bL4\b", 121, 121, 60),
    (r"\bT4\b", None, 65, 8.1),
    (r"\bV100-PCIE\b", None, 112, 14),
    (r"\bV100\b", None, 125, 15.7),
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", type=names, default=["notebook", "res_gru_3"])
    parser.add_argument("--batches", type=numbers, default=[24, 64, 128, 256])
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--precision", choices=PRECISIONS, default="mixed_bfloat16")
    parser.add_argument("--repeats", type=int, default=5, help="the median of which is reported")
    parser.add_argument("--steps", type=int, default=4, help="of a repeat")
    parser.add_argument("--peak_tflops", type=float, help="of the card, in place of the known one")
    parser.add_argument(
        "--jit_compile",
        action="store_true",
        help="TensorFlow by XLA; JAX always is, PyTorch never",
    )
    parser.add_argument("--narrow", action="store_true", help="a small network, for CPUs and tests")
    parser.add_argument("--one_row", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_row:
        measure(args, args.presets[0], args.batches[0])
    else:
        report(args)


def names(text):
    return text.split(",")


def numbers(text):
    return [int(number) for number in text.split(",")]


# === The table ===

TITLES = (
    "device",
    "backend",
    "precision",
    "preset",
    "views",
    "batch",
    "s/step",
    "samples/s",
    "TFLOP/s",
    "peak TFLOP/s",
    "share of peak",
    "memory, GiB",
    "first call, s",
)


def report(args):
    print(f"| {' | '.join(TITLES)} |")
    print("|---" * len(TITLES) + "|")
    rows = []
    for preset in args.presets:
        for batch in args.batches:
            rows.append(run(preset, batch))
            print(f"| {' | '.join(cells(rows[-1]))} |", flush=True)
    print()
    print(json.dumps({"narrow": args.narrow, "jit_compile": args.jit_compile, "rows": rows}))


def run(preset, batch):
    """A row of the table, from a process of its own."""
    options = [*sys.argv[1:], f"--presets={preset}", f"--batches={batch}", "--one_row"]
    process = subprocess.run(
        [sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True
    )
    row = {}
    for line in process.stdout.splitlines():
        if line.startswith("{"):
            row.update(json.loads(line))
    if row and process.returncode == -signal.SIGKILL:
        print("The process was killed, as the kernel does where memory runs out.", file=sys.stderr)
        row["error"] = "out of memory"
    elif process.returncode:
        sys.exit(f"{preset}, batch {batch}: exit code {process.returncode}, see above.")
    return row


def cells(row):
    """A row's texts, one for each of `TITLES`."""
    texts = [row["device"], f"{row['backend']} {row['version']}, Keras {row['keras']}"]
    texts += [row["precision"], row["preset"], str(row["views"]), str(row["batch"])]
    if "error" in row:
        return texts + [row["error"]] + ["-"] * (len(TITLES) - len(texts) - 1)
    return texts + [
        f"{row['seconds']:.4g}",
        f"{row['samples_per_second']:.4g}",
        f"{row['tflops']:.3g}",
        f"{row['peak_tflops']:.3g} ({row['peak_source']})",
        f"{row['share_of_peak']:.1%}",
        "-" if row["peak_gib"] is None else f"{row['peak_gib']:.2f}",
        f"{row['first_call_seconds']:.1f}",
    ]


# === One row ===


def measure(args, preset, batch):
    """Prints what is measured, and on what machine, as lines of JSON whose union is the row."""
    import keras

    about = {
        **device_and_backend(),
        "keras": keras.__version__,
        "precision": args.precision,
        "preset": preset,
        "views": args.views,
        "batch": batch,
    }
    print(json.dumps(about), flush=True)
    try:
        result = times(args, preset, batch)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(f"{type(error).__name__}: {str(error)[:500]}", file=sys.stderr)
        print(json.dumps({"error": "out of memory"}))
        return
    if args.peak_tflops:
        result.update(peak_tflops=args.peak_tflops, peak_source="given")
    elif peak := known_peak(about["device"], args.precision):
        result.update(peak_tflops=peak, peak_source="data sheet")
    else:
        result.update(peak_tflops=product_rate(args, on_cpu=about["device"].startswith("CPU")))
        result.update(peak_source="measured: matrix product")
    result["share_of_peak"] = result["tflops"] / result["peak_tflops"]
    print(json.dumps(result))


def times(args, preset, batch):
    import keras
    import numpy as np

    from r2n2_keras.model.r2n2 import R2N2

    # The batch first, since one that is much too large fails at once.
    arguments = network(preset, args.narrow)
    rng = np.random.default_rng(0)
    size, edge = (
        arguments["image_size"],
        arguments["grid_edge"] * 2 ** arguments["grid_upsamplings"],
    )
    images = rng.random((batch, args.views, size, size, arguments["channels"]), "float32")
    voxels = (rng.random((batch, edge, edge, edge), "float32") > 0.5).astype("float32")

    keras.config.set_dtype_policy(args.precision)
    model = R2N2(**arguments)
    for weight in model.weights:
        weight.assign(drawn(rng, weight.shape))
    images, voxels = keras.ops.convert_to_tensor(images), keras.ops.convert_to_tensor(voxels)
    make_step = {"tensorflow": tensorflow_step, "jax": jax_step, "torch": torch_step}
    step, wait = make_step[keras.backend.backend()](model, images, voxels, args)

    def seconds(steps):
        start = time.perf_counter()
        for _ in range(steps):
            loss = step()
        wait(loss)
        return (time.perf_counter() - start) / steps, float(keras.ops.convert_to_numpy(loss))

    first_call, first_loss = seconds(1)
    seconds(args.steps)
    repeats = [seconds(args.steps) for _ in range(args.repeats)]
    median = statistics.median(repeat for repeat, _ in repeats)
    return {
        "seconds": median,
        "samples_per_second": batch / median,
        "tflops": operations(model, batch, args.views) / median / 1e12,
        "peak_gib": peak_gib(),
        "first_call_seconds": first_call,
        "first_loss": first_loss,
        "last_loss": repeats[-1][1],
        "parameters": model.count_params(),
    }


def network(preset, narrow):
    """The arguments of a preset's network; narrow: its kinds of layers, a 16th as wide."""
    from r2n2_keras.model.presets import PRESETS
    from r2n2_keras.model.r2n2 import R2N2

    if preset not in PRESETS:
        sys.exit(f"Expected --presets out of {', '.join(PRESETS)}, received {preset!r}.")
    arguments = {**R2N2.__init__.__kwdefaults__, **PRESETS[preset]}
    if narrow:

        def part(width):
            return max(1, width // 16)

        *decoder_filters, scores = arguments["decoder_filters"]
        arguments.update(
            image_size=64,
            encoder_filters=tuple(map(part, arguments["encoder_filters"])),
            features=part(arguments["features"]),
            hidden_channels=part(arguments["hidden_channels"]),
            decoder_filters=(*map(part, decoder_filters), scores),
        )
    return arguments


def drawn(rng, shape):
    """Weights that keep the size of what goes through them: kernels uniform, biases zero."""
    import numpy as np

    if len(shape) < 2:
        return np.zeros(shape, "float32")
    return (rng.random(tuple(shape), "float32") - 0.5) * math.sqrt(12 / math.prod(shape[:-1]))


def is_out_of_memory(error):
    """Whether an exception, of whichever library, says that memory ran out."""
    text = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in OUT_OF_MEMORY)


# === The step of each backend: (step, wait), step() gives the loss, wait(loss) lets it finish ===


def mean_loss(voxels, occupancy):
    import keras

    return keras.ops.mean(keras.ops.binary_crossentropy(voxels, occupancy))


def make_optimizer(precision):
    """`r2n2_keras.training.steps.make_optimizer` without TensorFlow."""
    import keras

    adam = keras.optimizers.Adam(LEARNING_RATE, beta_1=0.9, beta_2=0.999, epsilon=1e-8)
    return keras.optimizers.LossScaleOptimizer(adam) if precision == "mixed_float16" else adam


def tensorflow_step(model, images, voxels, args):
    import tensorflow as tf

    from r2n2_keras.training import steps

    optimizer = steps.make_optimizer(LEARNING_RATE, args.precision)
    optimizer.build(model.trainable_variables)
    train_step = steps.make_train_step(
        tf.distribute.get_strategy(),
        model,
        optimizer,
        batch_size=images.shape[0],
        threshold=0.4,
        jit_compile=args.jit_compile,
    )
    stop = tf.zeros(())
    # The update is over when the function's results can be read: one graph, one stream of a card.
    return lambda: train_step(images, voxels, stop)[0], lambda loss: loss.numpy()


def jax_step(model, images, voxels, args):
    import jax
    import keras

    optimizer = make_optimizer(args.precision)
    optimizer.build(model.trainable_variables)

    def loss_of(weights, others, moments, images, voxels):
        occupancy, others = model.stateless_call(weights, others, images, training=True)
        loss = mean_loss(voxels, occupancy)
        # The scale of mixed_float16 is a variable of the optimizer.
        scope = zip(optimizer.variables, moments, strict=True)
        with keras.StatelessScope(state_mapping=list(scope)):
            scaled = optimizer.scale_loss(loss)
        return scaled, (loss, others)

    def update(state, images, voxels):
        weights, others, moments = state
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (_, (loss, others)), gradients = gradient(weights, others, moments, images, voxels)
        weights, moments = optimizer.stateless_apply(moments, gradients, weights)
        return (weights, others, moments), loss

    update = jax.jit(update, donate_argnums=0)
    state = tuple(
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
        )
    )

    def step():
        nonlocal state
        state, loss = update(state, images, voxels)
        return loss

    return step, lambda loss: jax.block_until_ready((state, loss))


def torch_step(model, images, voxels, args):
    import torch

    optimizer = make_optimizer(args.precision)
    weights = model.trainable_variables
    optimizer.build(weights)

    def step():
        model.zero_grad()
        loss = mean_loss(voxels, model(images, training=True))
        optimizer.scale_loss(loss).backward()
        with torch.no_grad():
            optimizer.apply([weight.value.grad for weight in weights], weights)
        return loss.detach()

    # torch.cuda, torch.cpu and the others have the same function.
    return step, lambda loss: getattr(torch, images.device.type).synchronize()


# === What was computed, and where ===


def operations(model, batch, views):
    """Floating-point operations of a training step, see the top."""
    layers = [layer for layer in model.layers if layer.weights]
    forward = sum(multiplications(layer, batch, views) for layer in layers)
    gradient_of_pictures = multiplications(layers[0], batch, views)
    return 2 * (3 * forward - gradient_of_pictures)


def multiplications(layer, batch, views):
    """How many products of two numbers a layer's forward pass takes."""
    from r2n2_keras.model.layers import UpsampleConv3D

    kernels = [weight for weight in layer.weights if len(weight.shape) > 1]
    # Each cell of the output meets every weight of the kernels; a dense layer has one, of a view.
    dense = len(kernels[0].shape) == 2
    cells = 1 if dense else math.prod(layer.output.shape[1:-1])
    if isinstance(layer, UpsampleConv3D):
        cells /= 8  # the kernel is spread from the cells of the smaller grid
        if layer.upsampling == "nearest":
            cells *= (1 + 1 / layer.kernel_size) ** 3  # it is wider by one along each axis
    each_view = layer.name.startswith(("encoder", "recurrence"))
    weights = sum(math.prod(kernel.shape) for kernel in kernels)
    return weights * cells * batch * (views if each_view else 1)


def device_and_backend():
    """The card's name, or the CPU's, and the backend's version."""
    import keras

    backend = keras.backend.backend()
    card = None
    if backend == "tensorflow":
        import tensorflow as library

        if cards := library.config.list_physical_devices("GPU"):
            details = library.config.experimental.get_device_details(cards[0])
            card = details.get("device_name", "unknown card")
    elif backend == "jax":
        import jax as library

        device = library.devices()[0]
        card = None if device.platform == "cpu" else device.device_kind
    else:
        import torch as library

        if library.cuda.is_available():
            card = library.cuda.get_device_name()
    return {"device": card or cpu_name(), "backend": backend, "version": library.__version__}


def cpu_name():
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            lines = re.findall(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
        name = lines[0] if lines else name
    affinity = getattr(os, "sched_getaffinity", None)
    return f"CPU {name}, {len(affinity(0)) if affinity else os.cpu_count()} threads"


def known_peak(device, precision):
    """Dense TFLOP/s of a card's data sheet, None where they are not known."""
    if device.startswith("CPU") or "MIG" in device:
        return None
    kinds = ("mixed_bfloat16", "mixed_float16", "float32")
    for pattern, *peaks in PEAKS:
        if re.search(pattern, device):
            return peaks[kinds.index(precision)]
    return None


def product_rate(args, on_cpu):
    """TFLOP/s of a product of two large matrices in the precision of the layers, the fastest."""
    import keras

    backend = keras.backend.backend()
    edge = 1024 if args.narrow else 4096 if on_cpu else 8192

    def maximum(matrix):
        return keras.ops.cast(keras.ops.max(matrix @ matrix), "float32")

    # The matrix is an argument: the product of a constant would be computed when compiled.
    if backend == "tensorflow":
        import tensorflow as tf

        product = tf.function(maximum)
    elif backend == "jax":
        import jax

        product = jax.jit(maximum)
    else:
        product = maximum

    dtype = args.precision.removeprefix("mixed_")
    if on_cpu and dtype == "float16":
        dtype = "float32"  # PyTorch's product of float16 is 100 times slower, its steps are not
    matrix = keras.ops.cast(keras.random.normal((edge, edge), seed=0), dtype)
    seconds = []
    for _ in range(1 + max(5, args.repeats)):
        start = time.perf_counter()
        keras.ops.convert_to_numpy(product(matrix))
        seconds.append(time.perf_counter() - start)
    return 2 * edge**3 / min(seconds[1:]) / 1e12


def peak_gib():
    """The most memory of the card that this process has used, None where nobody tells."""
    import keras

    used = None
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            used = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    elif keras.backend.backend() == "jax":
        import jax

        used = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    else:
        import torch

        if torch.cuda.is_available():
            used = torch.cuda.max_memory_allocated()
    return used and used / 2**30


if __name__ == "__main__":
    main()
