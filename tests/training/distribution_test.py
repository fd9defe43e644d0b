"""Strategies, and what workers exchange: real processes that find each other by TF_CONFIG."""

import json
import os
import re
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from training_runs import addresses_of, tf_config

from r2n2_keras.errors import InputError
from r2n2_keras.training import distribution
from r2n2_keras.training.cluster import Cluster

_TWO = ("a:1", "b:1")


@pytest.mark.parametrize(
    ("name", "cpu_devices", "cluster", "message"),
    [
        ("multi_worker", 1, Cluster(), "a TF_CONFIG of several workers, received one worker. Set"),
        ("one_device", 1, Cluster(0, 2, _TWO), "2 workers in TF_CONFIG, received one_device"),
        ("mirrored", 1, Cluster(1, 2, _TWO), "received mirrored: .* the same workdir"),
        ("auto", 2, Cluster(1, 2, _TWO), "--cpu_devices=1 with several .* received 2"),
    ],
)
def test_a_strategy_that_does_not_fit_the_cluster_is_refused(name, cpu_devices, cluster, message):
    with pytest.raises(InputError, match=message):
        distribution.strategy_for(name, cpu_devices, cluster, 1)


@pytest.mark.parametrize(
    ("batch_size", "replicas", "parts", "message"),
    [
        (24, 5, 1, "a multiple of the 5 replicas, received 24. Use 20 or 25."),
        (2, 3, 1, "received 2. Use 3."),
        (12, 2, 4, "2 replicas times --gradient_accumulation_steps=4, received 12. Use 8 or 16."),
    ],
)
def test_a_batch_that_cannot_be_shared_out_is_refused(batch_size, replicas, parts, message):
    with pytest.raises(InputError, match=message):
        distribution.check_batch_size(batch_size, replicas, parts)
    distribution.check_batch_size(replicas * parts * 3, replicas, parts)


def test_other_errors_are_left_alone():
    cluster = Cluster(0, 2, _TWO)
    for error in (tf.errors.UnavailableError(None, None, "gs://bucket is away"), OSError("full")):
        with pytest.raises(type(error)), distribution.explaining_lost_workers(cluster):
            raise error
    lost = tf.errors.UnavailableError(None, None, "Collective ops is aborted by: x")
    with pytest.raises(tf.errors.UnavailableError), distribution.explaining_lost_workers(Cluster()):
        raise lost


# === Processes ===

# Each exchanges what there is to exchange, prints what it found, and steps until it is ended.
_WORKER = """
import json, os, sys, time
import keras, numpy as np, tensorflow as tf
from r2n2_keras import command
from r2n2_keras.errors import InputError
from r2n2_keras.training import distribution
from r2n2_keras.training.cluster import read_cluster

def main():
    distribution.check_agreement(strategy, cluster, "the same\\neverywhere")
    agreement = []
    for ending in [[str(cluster.worker)], ["x"] * cluster.worker]:
        try:
            distribution.check_agreement(strategy, cluster, "\\n".join(["the same", *ending]))
        except InputError as error:
            agreement.append(str(error))

    bits = [0x80000000, 0x7FC00123, 0x00000001, 0x3F800001]  # -0.0, not a number, tiny, 1 + 1e-7
    with strategy.scope():
        special = [
            keras.Variable(np.zeros(4, "float32"), dtype="float32", trainable=False),
            tf.Variable(np.zeros((3, 1), "float16")),
            tf.Variable(0, dtype=tf.int64),
            keras.Variable(0, dtype="int32", trainable=False),
            tf.Variable([False, False, False]),
        ]
    if cluster.is_chief:
        special[0].assign(np.array(bits, "uint32").view("float32"))
        special[1].assign([[-0.0], [1.5], [np.inf]])
        special[2].assign(-(2**63))
        special[3].assign(-7)
        special[4].assign([True, False, True])
    else:
        special[0].assign(np.full(4, 3e38, "float32"))
        special[2].assign(2**63 - 1)
    distribution.broadcast(strategy, cluster, special)

    print(json.dumps({
        "agreement": agreement,
        "special": [np.asarray(tf.convert_to_tensor(x)).tobytes().hex() for x in special],
        "text": distribution.text_of(1, strategy, cluster, "é" * cluster.worker),
        "total": distribution.total(strategy, cluster, [cluster.worker + 1, 1e300]).tolist(),
    }), flush=True)
    while True:
        distribution.total(strategy, cluster, [1])
        time.sleep(0.05)

tf.config.threading.set_intra_op_parallelism_threads(1)
try:
    cluster = read_cluster()
    strategy = distribution.strategy_for("auto", 1, cluster, float(sys.argv[1]))
    with distribution.explaining_lost_workers(cluster):
        main()
except InputError as error:
    command.fail(str(error))
"""


def _start(worker, addresses, timeout):
    environ = {"CUDA_VISIBLE_DEVICES": "", **tf_config({"worker": addresses}, worker)}
    return subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(timeout)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environ},
    )  # fmt: skip


def _end(process):
    """Exit code and error lines, but for TensorFlow's log, which knows no TF_CPP_MIN_LOG_LEVEL."""
    _, stderr = process.communicate(timeout=60)
    log = re.compile(r"[IWE]\d{4} |WARNING: All log messages before absl::")
    return process.returncode, [line for line in stderr.splitlines() if not log.match(line)]


@pytest.fixture(scope="module", params=[0, pytest.param(2, marks=pytest.mark.slow)])
def workers(request):
    """Three workers, one of which is killed: what each printed, and how the others ended."""
    addresses = addresses_of(3)
    processes = [_start(worker, addresses, timeout=100) for worker in range(3)]
    try:
        printed = [process.stdout.readline() for process in processes]
        processes[request.param].kill()
        ends = [_end(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(printed), ends
    del ends[request.param]
    return [json.loads(line) for line in printed], ends, addresses


def test_texts_sums_in_float64_and_the_chiefs_values_bit_for_bit_arrive(workers):
    expected = [
        np.array([0x80000000, 0x7FC00123, 0x00000001, 0x3F800001], "uint32"),
        np.array([-0.0, 1.5, np.inf], "float16"),
        np.array(-(2**63)),
        np.array(-7, "int32"),
        np.array([True, False, True]),
    ]
    for report in workers[0]:
        assert report["special"] == [values.tobytes().hex() for values in expected]
        assert (report["text"], report["total"]) == ("é", [6, 3e300])


def test_workers_that_train_something_else_are_named(workers):
    reports, _, addresses = workers
    who = f"others on worker 1 ({addresses[1]}), worker 2 ({addresses[2]}): the first has "
    for report in reports:
        last, longer = report["agreement"]
        assert f"{who}'1' where the chief has '0'" in last
        assert f"{who}'x' where the chief has 'nothing more'" in longer


def test_survivors_of_a_killed_worker_end_with_a_line(workers):
    line = (
        "error: Expected all 3 workers to train to the end, received that one was lost. See the "
        "other workers' output for why it ended, and start the same command on all of them: it "
        "goes on from the last checkpoint."
    )
    assert workers[1] == [(1, [line])] * 2


def test_a_worker_lost_while_tensorflow_starts_is_named():
    """TensorFlow would wait for hours for what answers as a worker does, and is none any more."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        addresses = (*addresses_of(1), f"127.0.0.1:{other.getsockname()[1]}")
        code, (line,) = _end(_start(0, addresses, timeout=3))
    assert code == 1
    assert line.startswith("error: Expected all 2 workers to start within 3 seconds, received no ")
