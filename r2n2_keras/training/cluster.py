"""Who trains: the workers that TF_CONFIG lists, and waiting until all of them have started.

TensorFlow's launchers set that variable. Each worker is a process that runs the same command; the
chief, the first of them, is the one that writes.
"""

import contextlib
import dataclasses
import json
import os
import socket
import time
from collections.abc import Mapping

from r2n2_keras.errors import InputError

EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", ...}}'
_SECONDS_BETWEEN_PROBES = 0.5
_CONNECT_SECONDS = 2.0
_SHOWN = 60  # characters of a long text


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run."""

    worker: int = 0  # which of them this process is; the chief is 0
    workers: int = 1  # how many there are
    addresses: tuple[str, ...] = ()  # host:port of each in order; none for one worker

    @property
    def is_chief(self) -> bool:
        """Whether this is the worker that writes."""
        return self.worker == 0


def read_cluster(environ: Mapping[str, str] = os.environ) -> Cluster:
    """The workers in TF_CONFIG, this process alone without it; InputError if it is unusable."""
    text = environ.get("TF_CONFIG", "").strip()
    if not text:
        return Cluster()
    received, correct = repr(shortened(text)), "Correct it, or unset it to train with one worker."
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        _expect(False, f"to be JSON such as {EXAMPLE}", f"{received} ({error})", correct)
    for name in ("cluster", "task"):
        part = config.get(name) if isinstance(config, dict) else None
        holds = isinstance(part, dict) and part
        _expect(holds, f'to have a "{name}", as {EXAMPLE} has', received, correct)
    jobs, task = config["cluster"], config["task"]
    for job in [task.get("type"), *jobs]:
        _expect(
            job in ("chief", "worker"),
            "with tasks of the types chief and worker",
            repr(job),
            "Workers share the gradients and the chief validates: start no parameter servers and "
            "no evaluator, and leave them out of the cluster.",
        )
    for job, addresses in jobs.items():
        _expect(
            isinstance(addresses, list) and all(map(_is_address, addresses)),
            f"to list the addresses of {job!r} as host:port",
            shortened(json.dumps(addresses)),
            f"Correct it, as in {EXAMPLE}.",
        )
    chiefs = jobs.get("chief", [])
    _expect(len(chiefs) <= 1, "to have one chief", len(chiefs), "Make the others workers.")
    addresses = (*chiefs, *jobs.get("worker", []))
    repeated = sorted({address for address in addresses if addresses.count(address) > 1})
    _expect(
        not repeated,
        "to have an address of its own for every task",
        f"{', '.join(repeated)} more than once",
        "Give every task a host or a port of its own.",
    )
    job, index = task["type"], task.get("index", 0)
    count = len(jobs.get(job, []))
    _expect(
        str(index).isdecimal() and int(index) < count,
        f"with the task index of one of {count} tasks of type {job!r}, counted from 0",
        repr(index),
        "Number the tasks as their addresses are listed.",
    )
    if len(addresses) == 1:
        return Cluster()
    return Cluster(int(index) + len(chiefs) * (job == "worker"), len(addresses), addresses)


def _expect(holds, expected, received, advice):
    if not holds:
        raise InputError(f"Expected TF_CONFIG {expected}, received {received}. {advice}") from None


def _is_address(address):
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536


def shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def wait_for_workers(cluster: Cluster, timeout: float) -> None:
    """Waits until every other worker answers; an InputError where one does not in time.

    TensorFlow waits for them, too, but for ever, holding Python's lock: neither signals nor threads
    get through to end it. So TensorFlow is started when all are there.
    """
    own = cluster.addresses[cluster.worker]
    others = [address for address in cluster.addresses if address != own]
    deadline = time.monotonic() + timeout
    never_seen = set(others)
    try:
        server = _listen(int(own.rpartition(":")[2]))
    except OSError as error:
        raise InputError(
            f"Expected the port of {own}, TF_CONFIG's address of this worker, to be free on this "
            f"machine, received: {error.strerror}. End what uses it, or choose another port in "
            "every worker's TF_CONFIG."
        ) from None
    with server:
        # All in one round: one that answered before may have given up waiting since.
        while missing := [address for address in others if not _answers(address)]:
            _accept_all(server)
            never_seen &= set(missing)
            if timeout and time.monotonic() > deadline:
                silent = [address for address in others if address in (never_seen or missing)]
                raise InputError(
                    f"Expected all {cluster.workers} workers of TF_CONFIG to join within "
                    f"--worker_timeout={timeout:g} seconds, received no answer from "
                    f"{', '.join(silent)}. Start the same command there, or correct the address, "
                    "or give more time."
                )
            time.sleep(_SECONDS_BETWEEN_PROBES)


def _listen(port):
    if socket.has_dualstack_ipv6():
        server = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        server = socket.create_server(("", port))
    server.setblocking(False)
    return server


def _accept_all(server):
    """Empties the queue of those who asked: where it is full, nobody is answered any more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            server.accept()[0].close()


def _answers(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except OSError:  # also of a name that does not exist yet
        return False
    return True
