"""How several devices and workers train together: the strategy, and what workers exchange."""

import contextlib
import faulthandler
import subprocess
import sys
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from r2n2_keras.errors import InputError
from r2n2_keras.training import cluster as cluster_lib
from r2n2_keras.training.cluster import Cluster

# What TensorFlow raises where a worker is lost depends on who notices it first.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


def strategy_for(
    name: str, cpu_devices: int, cluster: Cluster, worker_timeout: float
) -> tf.distribute.Strategy:
    """Makes the strategy that every training step runs under; must come before TensorFlow starts.

    `name` is "one_device", "mirrored", "multi_worker", or "auto": what workers and devices suggest.
    The CPU is split into `cpu_devices`; a `worker_timeout` of 0 seconds is for ever. An InputError
    says that these do not fit the cluster, or that a worker did not come.
    """
    if name == "multi_worker" and cluster.workers == 1:
        raise InputError(
            "Expected --strategy=multi_worker with a TF_CONFIG of several workers, received one "
            f"worker. Set TF_CONFIG for each, such as {cluster_lib.EXAMPLE}, or use "
            "--strategy=auto."
        )
    if name in ("one_device", "mirrored") and cluster.workers > 1:
        raise InputError(
            f"Expected --strategy=multi_worker or auto with {cluster.workers} workers in "
            f"TF_CONFIG, received {name}: each worker would train for itself, in the same workdir. "
            "Change the flag, or unset TF_CONFIG and start the command once."
        )
    if cpu_devices > 1:
        if cluster.workers > 1:
            raise InputError(
                "Expected --cpu_devices=1 with several workers, each of which trains on its whole "
                f"CPU, received {cpu_devices}. Leave it out, or start more workers."
            )
        parts = [tf.config.LogicalDeviceConfiguration()] * cpu_devices
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    if cluster.workers > 1:
        cluster_lib.wait_for_workers(cluster, worker_timeout)
        return _multi_worker_strategy(cluster, worker_timeout)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    if name == "one_device" or (name == "auto" and len(names) == 1):
        return tf.distribute.OneDeviceStrategy(names[0])
    return tf.distribute.MirroredStrategy(names)


def _multi_worker_strategy(cluster, timeout):
    # Of our own reading of TF_CONFIG, so that ranks are the same for TensorFlow.
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.worker,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )
    error = (
        f"error: Expected all {cluster.workers} workers to start within {timeout:g} seconds, "
        "received no word of one that had answered before. See the other workers' output for why "
        "it ended, and start the same command on all of them."
    )
    with _exiting_after(timeout, error) if timeout else contextlib.nullcontext():
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)


@contextlib.contextmanager
def _exiting_after(seconds, line):
    """Ends the process with a line and exit code 1 where the context lasts longer.

    While TensorFlow holds Python's lock only faulthandler's watchdog runs. What it writes is a
    traceback; it goes to a process that writes the line instead.
    """
    code = "import sys; sys.stdin.buffer.read(1) and sys.exit(sys.argv[1])"
    command = [sys.executable, "-I", "-S", "-c", code, line]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as writer:
        faulthandler.dump_traceback_later(seconds, exit=True, file=writer.stdin)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def check_batch_size(batch_size: int, replicas: int, parts: int = 1) -> None:
    """Raises an InputError where replicas of so many parts cannot share a batch out evenly."""
    share = replicas * parts
    if batch_size % share == 0:
        return
    divisors = f"the {replicas} replicas"
    if parts > 1:
        divisors += f" times --gradient_accumulation_steps={parts}"
    below = batch_size // share * share
    fitting = f"{below} or {below + share}" if below else share
    raise InputError(
        f"Expected --batch_size to be a multiple of {divisors}, received {batch_size}. Use "
        f"{fitting}."
    )


def distribute(strategy: tf.distribute.Strategy, dataset_of: Callable):
    """The dataset of every replica's share of the batches.

    `dataset_of` is a function of (worker, workers, parts) that gives a worker's share of every
    batch, in as many elements as the worker has replicas.
    """

    def share(context):
        workers = context.num_input_pipelines
        parts = strategy.num_replicas_in_sync // workers
        return dataset_of(worker=context.input_pipeline_id, workers=workers, parts=parts)

    return strategy.distribute_datasets_from_function(share)


# === What workers exchange: all of them call these functions, in the same order ===


def total(strategy, cluster: Cluster, values) -> np.ndarray:
    """The sum over the workers of numbers `(N,)`, in float64."""
    values = np.asarray(values, np.float64)
    return values if cluster.workers == 1 else _sum(strategy, values)


def broadcast(strategy, cluster: Cluster, variables: Iterable) -> None:
    """Gives every worker the chief's values of Keras or TensorFlow variables, bit for bit."""
    if cluster.workers == 1:
        return
    for variable in variables:
        own = np.asarray(tf.convert_to_tensor(variable))
        data = _bytes_of(0, strategy, cluster, own.tobytes(), own.nbytes)
        variable.assign(np.frombuffer(data, own.dtype).reshape(own.shape))


def text_of(worker: int, strategy, cluster: Cluster, text: str) -> str:
    if cluster.workers == 1:
        return text
    own = text.encode()
    sizes = np.zeros(cluster.workers)
    sizes[cluster.worker] = len(own)
    size = int(total(strategy, cluster, sizes)[worker])
    return _bytes_of(worker, strategy, cluster, own, size).decode()


def check_agreement(strategy, cluster: Cluster, description: str) -> None:
    """Raises an InputError on every worker where one has another description than the chief.

    It lists line by line what has to be the same, what a user can make sense of first.
    """
    if cluster.workers == 1:
        return
    chiefs = text_of(0, strategy, cluster, description)
    differs = np.zeros(cluster.workers)
    differs[cluster.worker] = description != chiefs
    different = np.flatnonzero(total(strategy, cluster, differs)).tolist()
    if not different:
        return
    others = text_of(different[0], strategy, cluster, description)
    # A text that ends earlier differs, too.
    lines = [[*text.split("\n"), "nothing more"] for text in (chiefs, others)]
    pairs = zip(*lines, strict=False)
    expected, received = next(map(cluster_lib.shortened, p) for p in pairs if p[0] != p[1])
    who = [f"worker {worker} ({cluster.addresses[worker]})" for worker in different]
    raise InputError(
        f"Expected all workers to train with the settings and data of the chief, "
        f"{cluster.addresses[0]}, received others on {', '.join(who)}: the first has {received!r} "
        f"where the chief has {expected!r}. Start the same command, on the same data, everywhere."
    )


def _bytes_of(worker, strategy, cluster, own, size):
    """As many bytes of a worker, on all of them."""
    data = own if cluster.worker == worker else b""
    padded = data.ljust(8 * (size // 8 + 1), b"\0")
    # A sum of whole numbers and zeros. One of floats would make 0.0 of -0.0.
    return _sum(strategy, np.frombuffer(padded, np.int64)).tobytes()[:size]


def _sum(strategy, values):
    # Of a plain tensor, unlike of a replica's value, every worker's counts once.
    return strategy.reduce(tf.distribute.ReduceOp.SUM, tf.constant(values), axis=None).numpy()


@contextlib.contextmanager
def explaining_lost_workers(cluster: Cluster):
    """A context in which a worker that is lost is an InputError instead of one of TensorFlow's.

    With TensorFlow 2.20 it comes at once where the process ended; after some 10 seconds where its
    machine fell silent, by the heartbeats that all send to the chief. A worker that just takes
    long, validating or saving, sends them all the same and is waited for.
    """
    try:
        yield
    except _LOST as error:
        if cluster.workers == 1 or "ollective" not in str(error.message):
            raise
        raise InputError(
            f"Expected all {cluster.workers} workers to train to the end, received that one was "
            "lost. See the other workers' output for why it ended, and start the same command on "
            "all of them: it goes on from the last checkpoint."
        ) from None
