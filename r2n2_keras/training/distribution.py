"""What trains: one device, several devices of a machine, or several workers, each a process.

Workers find each other by TF_CONFIG, the variable that TensorFlow's launchers set. Each runs the
same command; the chief, the first of them, is the one that writes.
"""

import contextlib
import dataclasses
import faulthandler
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from r2n2_keras.errors import InputError

_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", ...}}'
_PROBE_SECONDS = 0.5  # between two looks for the others
_CONNECT_SECONDS = 2.0
_SHOWN = 60  # characters of a setting that workers do not agree on

# Of a lost worker TensorFlow speaks in many ways, depending on who notices it first.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


# === Who takes part ===


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run.

    Attributes:
        worker: which of them this process is; the chief is 0.
        workers: how many there are.
        addresses: host:port of each, in their order; none where there is one worker.
    """

    worker: int = 0
    workers: int = 1
    addresses: tuple[str, ...] = ()

    @property
    def is_chief(self) -> bool:
        """Whether this is the worker that writes."""
        return self.worker == 0


def read_cluster(environ: Mapping[str, str] = os.environ) -> Cluster:
    """Reads who takes part from TF_CONFIG; without it, this process alone.

    Args:
        environ: the environment.

    Raises:
        InputError: TF_CONFIG does not describe workers of which this process is one.
    """
    text = environ.get("TF_CONFIG", "").strip()
    if not text:
        return Cluster()
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"Expected TF_CONFIG to be JSON such as {_EXAMPLE}, received {_short(text)!r} "
            f"({error}). Correct it, or unset it to train with one worker."
        ) from None
    parts = [config.get(name) if isinstance(config, dict) else None for name in ("cluster", "task")]
    for name, part in zip(("cluster", "task"), parts, strict=True):
        if not isinstance(part, dict) or not part:
            raise InputError(
                f'Expected TF_CONFIG to have a "{name}", as {_EXAMPLE} has, received '
                f"{_short(text)!r}. Correct it, or unset it to train with one worker."
            )
    jobs, task = parts
    for job in [task.get("type"), *jobs]:
        if job not in ("chief", "worker"):
            raise InputError(
                f"Expected TF_CONFIG with tasks of the types chief and worker, received {job!r}. "
                "Workers share the gradients and the chief validates: start no parameter servers "
                "and no evaluator, and leave them out of the cluster."
            )
    for job, addresses in jobs.items():
        if not isinstance(addresses, list) or not all(map(_is_address, addresses)):
            raise InputError(
                f"Expected TF_CONFIG to list the addresses of {job!r} as host:port, received "
                f"{_short(json.dumps(addresses))}. Correct it, as in {_EXAMPLE}."
            )
    chiefs, others = jobs.get("chief", []), jobs.get("worker", [])
    if len(chiefs) > 1:
        raise InputError(
            f"Expected TF_CONFIG to have one chief, received {len(chiefs)}. Make the others "
            "workers."
        )
    addresses = (*chiefs, *others)
    twice = sorted({address for address in addresses if addresses.count(address) > 1})
    if twice:
        raise InputError(
            f"Expected TF_CONFIG to have an address of its own for every task, received "
            f"{', '.join(twice)} more than once. Give every task a host or a port of its own."
        )
    job, index = task["type"], task.get("index", 0)
    count = len(jobs.get(job, []))
    if not str(index).isdecimal() or int(index) >= count:
        raise InputError(
            f"Expected TF_CONFIG's task index to be that of one of {count} tasks of type {job!r}, "
            f"counted from 0, received {index!r}. Number the tasks as their addresses are listed."
        )
    if len(addresses) == 1:
        return Cluster()
    return Cluster(int(index) + len(chiefs) * (job == "worker"), len(addresses), addresses)


def _is_address(address):
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536


def _short(text):
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


# === How they train ===


def strategy_for(
    name: str, cpu_devices: int, cluster: Cluster, worker_timeout: float
) -> tf.distribute.Strategy:
    """Makes the strategy that every training step runs under; must come before TensorFlow starts.

    Args:
        name: "one_device", "mirrored", "multi_worker", or "auto": multi_worker where there are
            several workers, mirrored where there are several devices.
        cpu_devices: logical devices to split the CPU into.
        cluster: the workers.
        worker_timeout: seconds to wait for the other workers; 0: for ever.

    Raises:
        InputError: name or cpu_devices do not fit the cluster, or a worker did not come.
    """
    if name == "multi_worker" and cluster.workers == 1:
        raise InputError(
            "Expected --strategy=multi_worker with a TF_CONFIG of several workers, received one "
            f"worker. Set TF_CONFIG for each, such as {_EXAMPLE}, or use --strategy=auto."
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
        return _join(cluster, worker_timeout)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    if name == "one_device" or (name == "auto" and len(names) == 1):
        return tf.distribute.OneDeviceStrategy(names[0])
    return tf.distribute.MirroredStrategy(names)


def check_batch_size(batch_size: int, replicas: int, parts: int = 1) -> None:
    """Tells whether a global batch can be shared out evenly.

    Args:
        batch_size: global batch size.
        replicas: number of devices of all workers.
        parts: number of parts that each replica computes its samples in.

    Raises:
        InputError: it cannot.
    """
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


def _join(cluster, worker_timeout):
    """Makes the strategy of several workers."""
    _meet(cluster, worker_timeout)
    # Of our own reading of TF_CONFIG, so that ranks are the same for TensorFlow.
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.worker,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )
    lost = (
        f"error: Expected all {cluster.workers} workers to start within {worker_timeout:g} "
        "seconds, received no word of one that had answered before. See the other workers' output "
        "for why it ended, and start the same command on all of them."
    )
    with _ending_after(worker_timeout, lost) if worker_timeout else contextlib.nullcontext():
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)


def _meet(cluster, timeout):
    """Waits until every other worker answers at its address.

    TensorFlow waits for them, too, but for ever, holding Python's lock: neither signals nor threads
    get through to end it. So it is begun when all are there.
    """
    own = cluster.addresses[cluster.worker]
    others = [address for address in cluster.addresses if address != own]
    deadline = time.monotonic() + timeout
    never = set(others)
    try:
        door = _listen(int(own.rpartition(":")[2]))
    except OSError as error:
        raise InputError(
            f"Expected the port of {own}, TF_CONFIG's address of this worker, to be free on this "
            f"machine, received: {error.strerror}. End what uses it, or choose another port in "
            "every worker's TF_CONFIG."
        ) from None
    # All in one round: one that was there and gave up waiting is not there any more.
    with door:
        while missing := [address for address in others if not _answers(address)]:
            never &= set(missing)
            if timeout and time.monotonic() > deadline:
                silent = [address for address in others if address in (never or missing)]
                raise InputError(
                    f"Expected all {cluster.workers} workers of TF_CONFIG to join within "
                    f"--worker_timeout={timeout:g} seconds, received no answer from "
                    f"{', '.join(silent)}. Start the same command there, or correct the address, "
                    "or give more time."
                )
            time.sleep(_PROBE_SECONDS)


def _listen(port):
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _answers(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except OSError:  # also of a name that does not exist yet
        return False
    return True


@contextlib.contextmanager
def _ending_after(seconds, line):
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


# === What they tell each other ===


def broadcast(strategy, cluster: Cluster, variables: Iterable) -> None:
    """Gives every worker the chief's values, bit for bit.

    Args:
        strategy: the tf.distribute strategy.
        cluster: the workers, all of which call this.
        variables: Keras or TensorFlow variables, the same ones in the same order everywhere.

    Raises:
        tf.errors.OpError: a worker is lost, see `explaining_lost_workers`.
    """
    if cluster.workers == 1:
        return
    for variable in variables:
        own = np.asarray(tf.convert_to_tensor(variable))
        data = own.tobytes() if cluster.is_chief else bytes(own.nbytes)
        # A sum of whole numbers and zeros. One of floats would make 0.0 of -0.0.
        padded = data.ljust(-(-len(data) // 8) * 8, b"\0")
        data = _sum(strategy, np.frombuffer(padded, np.int64)).tobytes()[: own.nbytes]
        variable.assign(np.frombuffer(data, own.dtype).reshape(own.shape))


def total(strategy, cluster: Cluster, values) -> np.ndarray:
    """The sum over the workers, in float64.

    Args:
        strategy: the tf.distribute strategy.
        cluster: the workers, all of which call this.
        values: this worker's numbers, `(N,)`, the same N everywhere.

    Raises:
        tf.errors.OpError: a worker is lost, see `explaining_lost_workers`.
    """
    values = np.asarray(values, np.float64)
    return values if cluster.workers == 1 else _sum(strategy, values)


def _sum(strategy, values):
    # Of a plain tensor, unlike of a replica's value, every worker's counts once.
    return strategy.reduce(tf.distribute.ReduceOp.SUM, tf.constant(values), axis=None).numpy()


def check_agreement(strategy, cluster: Cluster, description: str) -> None:
    """Tells whether all workers train the same.

    Args:
        strategy: the tf.distribute strategy.
        cluster: the workers, all of which call this.
        description: what has to be the same everywhere, such as settings and names of models, in
            lines; what a user can make sense of first.

    Raises:
        InputError: on every worker, where one does not have the chief's text.
        tf.errors.OpError: a worker is lost, see `explaining_lost_workers`.
    """
    if cluster.workers == 1:
        return
    text = description.encode()
    digests = np.zeros((cluster.workers, hashlib.sha256().digest_size))
    digests[cluster.worker] = list(hashlib.sha256(text).digest())
    digests = total(strategy, cluster, digests.ravel()).reshape(digests.shape)
    different = np.flatnonzero((digests != digests[0]).any(axis=1)).tolist()
    if not different:
        return
    chiefs, others = (
        _text_of(strategy, cluster, worker, text).split("\n") for worker in (0, different[0])
    )
    # A text that ends earlier differs, too.
    pairs = zip([*chiefs, "nothing more"], [*others, "nothing more"], strict=False)
    chiefs_line, others_line = next(pair for pair in pairs if pair[0] != pair[1])
    who = [f"worker {worker} ({cluster.addresses[worker]})" for worker in different]
    raise InputError(
        f"Expected all workers to train with the settings and data of the chief, "
        f"{cluster.addresses[0]}, received others on {', '.join(who)}: the first has "
        f"{_short(others_line)!r} where the chief has {_short(chiefs_line)!r}. Start the same "
        "command, on the same data, everywhere."
    )


def _text_of(strategy, cluster, worker, text):
    """A worker's text, for all of them."""
    own = text if cluster.worker == worker else b""
    (length,) = total(strategy, cluster, [len(own)])
    values = np.zeros(int(length))
    values[: len(own)] = list(own)
    return bytes(total(strategy, cluster, values).astype(np.uint8)).decode()


@contextlib.contextmanager
def explaining_lost_workers(cluster: Cluster):
    """A context in which the errors of a sum over workers, one of which is lost, are an InputError.

    How soon they come, with TensorFlow 2.20: at once where the process ended; after some 10 seconds
    where its machine fell silent, by the heartbeats that all send to the chief. A worker that just
    takes long, validating or saving, sends them all the same and is waited for.

    Args:
        cluster: the workers.

    Raises:
        InputError: a worker is lost.
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
