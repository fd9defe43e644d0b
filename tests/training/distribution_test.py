"""Several workers: real processes that find each other by TF_CONFIG, on this machine."""

import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from r2n2_keras.errors import InputError
from r2n2_keras.training import distribution
from r2n2_keras.training.distribution import Cluster

# === TF_CONFIG ===

_TWO = ["a:2222", "b:2222"]


def _environ(cluster, task_type="worker", index=0):
    task = {"type": task_type, "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"TF_CONFIG": " "},
        _environ({"worker": ["a:2222"]}),
        _environ({"chief": ["a:1"]}, "chief"),
    ],
)
def test_a_process_alone_is_the_chief(environ):
    cluster = cluster.read_cluster(environ)
    assert cluster == Cluster(0, 1, ())
    assert cluster.is_chief


@pytest.mark.parametrize(
    ("cluster", "task_type", "index", "expected"),
    [
        ({"worker": _TWO}, "worker", 0, Cluster(0, 2, ("a:2222", "b:2222"))),
        ({"worker": _TWO}, "worker", "1", Cluster(1, 2, ("a:2222", "b:2222"))),
        (
            {"worker": _TWO, "chief": ["c:1"]},
            "chief",
            0,
            Cluster(0, 3, ("c:1", "a:2222", "b:2222")),
        ),
        (
            {"worker": _TWO, "chief": ["c:1"]},
            "worker",
            1,
            Cluster(2, 3, ("c:1", "a:2222", "b:2222")),
        ),
        ({"worker": ["[::1]:7", "[::1]:8"]}, "worker", 1, Cluster(1, 2, ("[::1]:7", "[::1]:8"))),
    ],
)
def test_the_chief_comes_before_the_workers(cluster, task_type, index, expected):
    received = cluster.read_cluster(_environ(cluster, task_type, index))
    assert received == expected
    assert received.is_chief == (expected.worker == 0)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"TF_CONFIG": "worker0"}, "TF_CONFIG to be JSON such as .*'worker0' .* or unset"),
        ({"TF_CONFIG": "[1]"}, r'to have a "cluster", .* received \'\[1\]\''),
        ({"TF_CONFIG": '{"task": {"type": "worker", "index": 0}}'}, 'to have a "cluster"'),
        ({"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}}'}, 'to have a "task"'),
        (_environ({"worker": _TWO}, "ps"), "received 'ps'. .* no parameter servers"),
        (_environ({"worker": _TWO}, "evaluator"), "received 'evaluator'.* the chief validates"),
        (_environ({"worker": _TWO, "ps": ["c:1"]}), "received 'ps'.* leave them out"),
        (_environ({"worker": _TWO}, index=2), "one of 2 tasks .*received 2. Number"),
        (_environ({"worker": _TWO}, index=-1), "counted from 0, received -1"),
        (_environ({"worker": _TWO}, "chief"), "one of 0 tasks of type 'chief'"),
        (_environ({"worker": ["a:1", "b"]}), r"as host:port, received \[.a:1., .b.\]"),
        (_environ({"worker": ["a:1", "b:x"]}), "as host:port"),
        (_environ({"worker": "a:1"}), 'as host:port, received "a:1"'),
        (_environ({"chief": _TWO}, "chief"), "one chief, received 2. Make the others workers"),
        (_environ({"worker": ["a:1", "a:1"]}), "received a:1 more than once"),
        (_environ({"chief": ["a:1"], "worker": ["b:1", "a:1"]}), "received a:1 more than once"),
    ],
)  # fmt: skip
def test_a_faulty_tf_config_is_refused(environ, message):
    with pytest.raises(InputError, match=message) as caught:
        cluster.read_cluster(environ)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "cpu_devices", "cluster", "message"),
    [
        ("multi_worker", 1, Cluster(), "a TF_CONFIG of several workers, received one worker. Set"),
        ("one_device", 1, Cluster(0, 2, ("a:1", "b:1")), "2 workers in TF_CONFIG, received one_de"),
        ("mirrored", 1, Cluster(1, 2, ("a:1", "b:1")), "received mirrored: .* the same workdir"),
        ("auto", 2, Cluster(1, 2, ("a:1", "b:1")), "--cpu_devices=1 with several .* received 2"),
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
        (
            12,
            2,
            4,
            "the 2 replicas times --gradient_accumulation_steps=4, received 12. Use 8 or 16.",
        ),
    ],
)
def test_a_batch_that_cannot_be_shared_out_is_refused(batch_size, replicas, parts, message):
    with pytest.raises(InputError, match=message):
        distribution.check_batch_size(batch_size, replicas, parts)
    distribution.check_batch_size(replicas * parts * 3, replicas, parts)


def test_a_worker_alone_has_nothing_to_tell():
    values = distribution.total(None, Cluster(), [1, 2.5])
    assert values.dtype == np.float64 and values.tolist() == [1, 2.5]
    distribution.broadcast(None, Cluster(), [None])
    distribution.check_agreement(None, Cluster(), "anything")


def test_other_errors_are_left_alone():
    import tensorflow as tf

    cluster = Cluster(0, 2, ("a:1", "b:1"))
    for error in (tf.errors.UnavailableError(None, None, "gs://bucket is away"), OSError("full")):
        with pytest.raises(type(error)), distribution.explaining_lost_workers(cluster):
            raise error
    lost = tf.errors.UnavailableError(None, None, "Collective ops is aborted by: x")
    with pytest.raises(tf.errors.UnavailableError), distribution.explaining_lost_workers(Cluster()):
        raise lost


# === Processes ===

# What every worker begins with: `cluster`, `strategy`, and the line and the code of an InputError.
_WORKER = """
import json, os, sys, time
import keras, numpy as np, tensorflow as tf
from r2n2_keras import command
from r2n2_keras.errors import InputError
from r2n2_keras.training import distribution, steps

tf.config.threading.set_intra_op_parallelism_threads(1)
try:
    cluster = cluster.read_cluster()
    strategy = distribution.strategy_for("auto", 1, cluster, float(sys.argv[1]))
    with distribution.explaining_lost_workers(cluster):
        main()
except InputError as error:
    command.fail(str(error))
"""

# Trains, and goes back to a checkpoint.
_TRAINING = """
def main():
    from r2n2_keras.model.r2n2 import R2N2

    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(cluster.worker)  # all start as the chief does, nevertheless
    with strategy.scope():
        model = R2N2(
            image_size=16, encoder_filters=(8, 8), encoder_kernel_sizes=(3, 3),
            encoder_shortcuts=("conv", "identity"), features=16, hidden_channels=8,
            decoder_filters=(8, 2), decoder_shortcuts=("identity",), grid_upsamplings=1,
        )
        optimizer = steps.make_optimizer(1e-3)
        optimizer.build(model.trainable_variables)
    variables = [*model.weights, *optimizer.variables]
    distribution.broadcast(strategy, cluster, variables)
    size = 12 // strategy.num_replicas_in_sync

    def dataset_of(context, first=0):
        replicas = context.num_replicas_in_sync // context.num_input_pipelines

        def batch(index):
            step, replica = index // replicas, index % replicas
            seed = tf.stack([step, step])
            images = tf.random.stateless_uniform([12, 1 + step % 3, 16, 16, 3], seed)
            voxels = tf.random.stateless_uniform([12, 8, 8, 8], seed)
            begin = (context.input_pipeline_id * replicas + replica) * size
            share = images[begin : begin + size], tf.round(voxels[begin : begin + size])
            return share[0], tf.ensure_shape(share[1], [None, 8, 8, 8])

        return tf.data.Dataset.counter(first * replicas).map(batch)

    def dataset(first=0):
        return strategy.distribute_datasets_from_function(lambda c: dataset_of(c, first))

    spec = dataset().element_spec
    train_step = steps.make_train_step(
        strategy, model, optimizer, batch_size=12, threshold=0.4, element_spec=spec
    )
    losses = []
    batches = iter(dataset())
    for step in range(10):
        if step == 5 and cluster.worker == cluster.workers - 1:
            batches = iter(dataset(step))  # one alone goes on anew
        losses.append(train_step(*next(batches), tf.constant(0.0)).numpy().tolist())

    trained = weights(variables)
    path = os.path.join(sys.argv[2], "checkpoint")
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    if cluster.is_chief:
        checkpoint.write(path)
    for variable in variables:
        variable.assign(variable + 1)
    if cluster.is_chief:
        checkpoint.read(path)
    distribution.broadcast(strategy, cluster, variables)

    print(json.dumps({
        "replicas": strategy.num_replicas_in_sync,
        "losses": losses,
        "weights": trained,
        "restored": weights(variables),
    }))

def weights(variables):
    return b"".join(np.asarray(tf.convert_to_tensor(x)).tobytes() for x in variables).hex()
"""

# Tells the others what there is to tell.
_TELLING = """
def main():
    agreement = ""
    distribution.check_agreement(strategy, cluster, "the same\\neverywhere")
    for ending in [[str(cluster.worker)], ["x"] * cluster.worker]:
        try:
            distribution.check_agreement(strategy, cluster, "\\n".join(["the same", *ending]))
        except InputError as error:
            agreement += f"{error} "

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
        "total": distribution.total(strategy, cluster, [cluster.worker + 1, 1e300]).tolist(),
    }))
"""

# Steps for ever: the tests end them.
_STEPPING = """
def main():
    print("ready", flush=True)
    while True:
        distribution.total(strategy, cluster, [1])
        time.sleep(0.05)
"""


def _free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


def _start(program, worker, addresses, *, timeout=60, folder=""):
    environ = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    environ.pop("TF_CONFIG", None)
    if addresses:
        environ.update(_environ({"worker": addresses}, index=worker))
    return subprocess.Popen(
        [sys.executable, "-c", program + _WORKER, str(timeout), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )


@pytest.fixture
def start():
    """`_start`, whose processes end with the test."""
    processes = []

    def started(*args, **kwargs):
        processes.append(_start(*args, **kwargs))
        return processes[-1]

    yield started
    for process in processes:
        process.kill()
        process.communicate()


def _addresses(workers):
    return [f"127.0.0.1:{port}" for port in _free_ports(workers)]


def _error_lines(stderr):
    """Without TensorFlow's log, which it partly writes whatever TF_CPP_MIN_LOG_LEVEL says."""
    log = re.compile(r"[IWE]\d{4} |WARNING: All log messages before absl::")
    return [line for line in stderr.splitlines() if not log.match(line)]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A function of a program and a number of workers: what each prints, the same for a `run`."""

    @functools.cache
    def reports_of(program, workers, run=0):
        addresses = _addresses(workers) if workers > 1 else []
        folder = tmp_path_factory.mktemp("training")
        processes = [_start(program, worker, addresses, folder=folder) for worker in range(workers)]
        try:
            outputs = [process.communicate(timeout=150) for process in processes]
        finally:
            for process in processes:
                process.kill()
        for process, (_, stderr) in zip(processes, outputs, strict=True):
            assert process.returncode == 0, stderr[-2000:]
        return [json.loads(stdout.splitlines()[-1]) for stdout, _ in outputs]

    return reports_of


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_workers_train_as_one_device(reports, workers):
    (one,) = reports(_TRAINING, 1)
    assert one["replicas"] == 1
    assert one["losses"][0][0] != pytest.approx(one["losses"][-1][0], abs=1e-4)  # it did train
    several = reports(_TRAINING, workers)
    for report in several:
        assert report["replicas"] == workers
        np.testing.assert_allclose(report["losses"], one["losses"], rtol=0, atol=1e-5)
        assert report["losses"] == several[0]["losses"]
        assert report["weights"] == several[0]["weights"]


@pytest.mark.slow
def test_two_runs_of_two_workers_end_with_the_same_weights(reports):
    assert reports(_TRAINING, 2, run=1)[0]["weights"] == reports(_TRAINING, 2)[0]["weights"]


def test_what_the_chief_restores_is_everyones(reports):
    for report in reports(_TRAINING, 2):
        assert report["restored"] == report["weights"]


def test_the_chiefs_values_are_told_bit_for_bit(reports):
    expected = [
        np.array([0x80000000, 0x7FC00123, 0x00000001, 0x3F800001], "uint32"),
        np.array([-0.0, 1.5, np.inf], "float16"),
        np.array(-(2**63)),
        np.array(-7, "int32"),
        np.array([True, False, True]),
    ]
    for report in reports(_TELLING, 3):
        assert report["special"] == [values.tobytes().hex() for values in expected]


def test_numbers_are_summed_in_float64(reports):
    assert [report["total"] for report in reports(_TELLING, 3)] == [[6, 3e300]] * 3


def test_workers_that_train_something_else_are_named(reports):
    for report in reports(_TELLING, 3):
        *texts, rest = report["agreement"].split("on the same data, everywhere. ")
        assert not rest
        for text, line in zip(
            texts, ["'1' where the chief has '0'", "'x' where the chief has 'nothing"], strict=True
        ):
            assert "received others on worker 1 (127.0.0.1:" in text
            assert ", worker 2 (127.0.0.1:" in text
            assert f"the first has {line}" in text


def test_a_worker_that_never_joins_is_named(start):
    addresses = _addresses(3)
    processes = [start(_STEPPING, worker, addresses, timeout=10) for worker in (0, 2)]
    for process in processes:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 1
        assert _error_lines(stderr) == [
            "error: Expected all 3 workers of TF_CONFIG to join within --worker_timeout=10 "
            f"seconds, received no answer from {addresses[1]}. Start the same command there, or "
            "correct the address, or give more time."
        ]


def test_a_wait_for_the_others_can_be_interrupted(start):
    process = start(_STEPPING, 0, (addresses := _addresses(2)), timeout=0)
    _await_listening(addresses[0])
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in stderr


def test_a_worker_lost_while_tensorflow_starts_is_told(start):
    """TensorFlow would wait for hours for what answers as a worker does, and is none any more."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        addresses = [*_addresses(1), f"127.0.0.1:{other.getsockname()[1]}"]
        _, stderr = start(_STEPPING, 0, addresses, timeout=3).communicate(timeout=60)
    (line,) = _error_lines(stderr)
    assert line.startswith("error: Expected all 2 workers to start within 3 seconds, received no ")


def test_a_port_that_is_taken_is_named(start):
    with socket.create_server(("", 0)) as other:
        addresses = [f"127.0.0.1:{other.getsockname()[1]}", *_addresses(1)]
        process = start(_STEPPING, 0, addresses)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    (line,) = _error_lines(stderr)
    assert line.startswith(f"error: Expected the port of {addresses[0]}, TF_CONFIG's address of")


@pytest.mark.parametrize("killed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_survivors_of_a_killed_worker_end_with_a_line(start, killed):
    addresses = _addresses(2)
    processes = [start(_STEPPING, worker, addresses) for worker in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    time.sleep(1)
    processes[killed].kill()
    survivor = processes[1 - killed]
    _, stderr = survivor.communicate(timeout=30)
    assert survivor.returncode == 1
    assert _error_lines(stderr) == [
        "error: Expected all 2 workers to train to the end, received that one was lost. See the "
        "other workers' output for why it ended, and start the same command on all of them: it "
        "goes on from the last checkpoint."
    ]


def _await_listening(address):
    deadline = time.monotonic() + 60
    while not distribution._answers(address):
        assert time.monotonic() < deadline
        time.sleep(0.1)
