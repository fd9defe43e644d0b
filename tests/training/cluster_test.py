"""TF_CONFIG, and workers that wait for each other."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from training_runs import addresses_of, tf_config

from r2n2_keras.errors import InputError
from r2n2_keras.training.cluster import Cluster, read_cluster, wait_for_workers

_TWO = ["a:2222", "b:2222"]


def test_a_process_alone_is_the_chief():
    one = ["a:1"]
    alone = tf_config({"worker": one}), tf_config({"chief": one}, 0, "chief")
    for environ in ({}, {"TF_CONFIG": " "}, *alone):
        assert read_cluster(environ) == Cluster(0, 1, ())
    assert Cluster().is_chief


@pytest.mark.parametrize(
    ("cluster", "task_type", "index", "worker", "addresses"),
    [
        ({"worker": _TWO}, "worker", 0, 0, ("a:2222", "b:2222")),
        ({"worker": _TWO}, "worker", "1", 1, ("a:2222", "b:2222")),
        ({"worker": _TWO, "chief": ["c:1"]}, "chief", 0, 0, ("c:1", "a:2222", "b:2222")),
        ({"worker": _TWO, "chief": ["c:1"]}, "worker", 1, 2, ("c:1", "a:2222", "b:2222")),
        ({"worker": ["[::1]:7", "[::1]:8"]}, "worker", 1, 1, ("[::1]:7", "[::1]:8")),
    ],
)
def test_the_chief_comes_before_the_workers(cluster, task_type, index, worker, addresses):
    received = read_cluster(tf_config(cluster, index, task_type))
    assert received == Cluster(worker, len(addresses), addresses)
    assert received.is_chief == (worker == 0)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"TF_CONFIG": "worker0"}, "TF_CONFIG to be JSON such as .*'worker0' .* or unset"),
        ({"TF_CONFIG": "[1]"}, r'to have a "cluster", .* received \'\[1\]\''),
        ({"TF_CONFIG": '{"task": {"type": "worker", "index": 0}}'}, 'to have a "cluster"'),
        ({"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}}'}, 'to have a "task"'),
        (tf_config({"worker": _TWO}, 0, "ps"), "received 'ps'. .* no parameter servers"),
        (tf_config({"worker": _TWO}, 0, "evaluator"), "received 'evaluator'.* the chief validates"),
        (tf_config({"worker": _TWO, "ps": ["c:1"]}), "received 'ps'.* leave them out"),
        (tf_config({"worker": _TWO}, 2), "one of 2 tasks .*received 2. Number"),
        (tf_config({"worker": _TWO}, -1), "counted from 0, received -1"),
        (tf_config({"worker": _TWO}, 0, "chief"), "one of 0 tasks of type 'chief'"),
        (tf_config({"worker": ["a:1", "b"]}), r"as host:port, received \[.a:1., .b.\]"),
        (tf_config({"worker": "a:1"}), 'as host:port, received "a:1"'),
        (tf_config({"chief": _TWO}, 0, "chief"), "one chief, received 2. Make the others workers"),
        (tf_config({"worker": ["a:1", "a:1"]}), "received a:1 more than once"),
        (tf_config({"chief": ["a:1"], "worker": ["b:1", "a:1"]}), "received a:1 more than once"),
    ],
)  # fmt: skip
def test_a_faulty_tf_config_is_refused(environ, message):
    with pytest.raises(InputError, match=message) as caught:
        read_cluster(environ)
    assert "\n" not in str(caught.value)


# === Waiting ===


def test_workers_wait_until_all_are_there():
    addresses = tuple(addresses_of(3))
    ports = [int(address.split(":")[1]) for address in addresses]

    def join(worker):
        wait_for_workers(Cluster(worker, 3, addresses), 20)
        # As TensorFlow does then: another may look for it once more.
        servers.append(socket.create_server(("", ports[worker])))

    servers = []
    threads = [threading.Thread(target=join, args=[worker], daemon=True) for worker in (0, 1, 2)]
    for thread in threads[:2]:
        thread.start()
    for _ in range(2):  # more than a socket's queue holds, though not at once
        time.sleep(1)
        for _ in range(100):
            socket.create_connection(("127.0.0.1", ports[0]), timeout=2).close()
    assert not servers
    threads[2].start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(servers) == 3
    for server in servers:
        server.close()


def test_a_worker_that_never_joins_is_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        here, gone = addresses_of(2)
        addresses = (here, gone, f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(InputError) as caught:
            wait_for_workers(Cluster(0, 3, addresses), 0.5)
    assert str(caught.value) == (
        f"Expected all 3 workers of TF_CONFIG to join within --worker_timeout=0.5 seconds, "
        f"received no answer from {gone}. Start the same command there, or correct the address, or "
        "give more time."
    )


def test_a_wait_for_the_others_can_be_interrupted():
    code = (
        "import signal\n"
        "from r2n2_keras.training.cluster import read_cluster, wait_for_workers\n"
        # A job in the background is started deaf to it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "print('ready', flush=True)\nwait_for_workers(read_cluster(), 0)"
    )
    environ = {**os.environ, **tf_config({"worker": addresses_of(2)})}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert stderr.strip().endswith(b"KeyboardInterrupt")


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as other:
        addresses = (f"127.0.0.1:{other.getsockname()[1]}", *addresses_of(1))
        message = f"the port of {addresses[0]}, TF_CONFIG's address of this worker, to be free"
        with pytest.raises(InputError, match=message):
            wait_for_workers(Cluster(0, 2, addresses), 1)
