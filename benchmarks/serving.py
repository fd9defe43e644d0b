"""Measures an exported model behind the stand-in server, beside the bare network.

    python benchmarks/serving.py --out=DIR [--presets=tiny,res_gru_3] [--images=a.png,b.png,c.png]

Exports each preset with fresh weights to DIR (an export that is there is taken), serves it with
`r2n2_keras.serve` and asks for the voxels of an object of three views, in turn with the same done
in this process: pictures decoded and the network called in a `tf.function`. Without --images the
views are synthesised. Prints one JSON object per preset:

    request_bytes, response_bytes   of a `voxels` request
    bare_ms                         median of decoding and the forward pass
    served_ms                       median time of a request, as the client sees it
    run_ratio                       the server's time in the graph (mean, by its own metrics) over
                                    the bare mean of the same rounds
    views_ms                        median time of a request by number of views
    refine_ms                       median time of a `refine` request with a state
    four_clients                    median and 99th percentile in ms, and requests per second
    memory_mb                       of the server's process, after all that
    largest_request_mb              what a request of as many pictures as may be adds to it

and at the end `overhead_ms`: the median time of a request to a model that does nothing, whose
request and answer are as long as the first preset's.
"""

import argparse
import base64
import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from r2n2_keras.data.photos import decode_views
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.serving import signatures, version_folder
from r2n2_keras.shapes import dataset

WARMUP, ROUNDS, CLIENTS = 5, 60, 4
VIEWS = (1, 3, 5)


class Server:
    """`r2n2_keras.serve` in a process of its own."""

    def __init__(self, export_dir, folder):
        monitoring = pathlib.Path(folder, "monitoring.config")
        path = "/monitoring/prometheus/metrics"
        monitoring.write_text(f'prometheus_config {{ enable: true, path: "{path}" }}')
        command = [sys.executable, "-m", "r2n2_keras.serve", f"--export_dir={export_dir}"]
        command += ["--rest_api_port=0", f"--monitoring_config_file={monitoring}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if found := re.search(r"http://[\d.]+:(\d+)", line):
                self.port = int(found[1])
                return
        raise SystemExit("error: the server did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port)

    def run_seconds(self):
        """Seconds in the graph so far, and the number of runs."""
        connection = self.connect()
        connection.request("GET", "/monitoring/prometheus/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        totals = []
        for part in ("sum", "count"):
            pattern = rf"^:tensorflow:serving:runtime_latency_{part}\{{.*\}} (\S+)$"
            totals.append(sum(map(float, re.findall(pattern, text, re.MULTILINE))))
        return totals[0] / 1e6, totals[1]

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) / 1024


def ask(connection, body):
    """Seconds and body of the answer to one request."""
    started = time.perf_counter()
    connection.request("POST", "/v1/models/r2n2:predict", body)
    answer = connection.getresponse()
    content = answer.read()
    seconds = time.perf_counter() - started
    if answer.status != 200:
        raise SystemExit(f"error: HTTP {answer.status}: {content[:300]!r}")
    return seconds, content


def body_of(signature, **inputs):
    return json.dumps({"signature_name": signature, "instances": [inputs]}).encode()


def encoded(content):
    return {"b64": base64.b64encode(content).decode()}


def voxels_body(pictures):
    return body_of("voxels", image_bytes=[encoded(picture) for picture in pictures])


def median_ms(server, body):
    connection = server.connect()
    seconds = [ask(connection, body)[0] for _ in range(WARMUP + ROUNDS // 2)][WARMUP:]
    connection.close()
    return 1e3 * float(np.median(seconds))


def four_clients(server, body):
    """Latencies of clients that each ask again as soon as they are answered."""
    latencies = [[] for _ in range(CLIENTS)]

    def work(mine):
        connection = server.connect()
        for _ in range(WARMUP + ROUNDS):
            mine.append(ask(connection, body)[0])
        connection.close()

    threads = [threading.Thread(target=work, args=(mine,)) for mine in latencies]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    all_of_them = 1e3 * np.concatenate([mine[WARMUP:] for mine in latencies])
    return {
        "median_ms": round(float(np.median(all_of_them)), 1),
        "p99_ms": round(float(np.percentile(all_of_them, 99)), 1),
        "requests_per_second": round(CLIENTS * (WARMUP + ROUNDS) / seconds, 1),
    }


def largest_request_mb(server, pictures):
    """Memory that a request of 16 objects with an equal share of the allowed pictures adds."""
    views = [encoded(pictures[0])] * (signatures.MAX_PICTURES // 16)
    instances = [{"image_bytes": views}] * 16
    before = server.memory()
    connection = server.connect()
    ask(connection, json.dumps({"signature_name": "voxels", "instances": instances}).encode())
    connection.close()
    return round(server.memory() - before)


def measure(preset, pictures, out):
    model = R2N2.from_preset(preset)
    export_dir = os.path.join(out, preset)
    if not os.path.isdir(os.path.join(export_dir, "1")):
        version_folder.export_version(model, export_dir, threshold=0.4, card="")

    strings = tf.TensorSpec((None, None), tf.string)
    bare = tf.function(
        lambda image_bytes: model(decode_views(image_bytes, model.image_spec), training=False),
        input_signature=[strings],
        autograph=False,
    )
    views = tf.constant([pictures[:3]])
    body = voxels_body(pictures[:3])
    with Server(export_dir, out) as server:
        connection = server.connect()
        bare_seconds, served_seconds = [], []
        for number in range(WARMUP + ROUNDS):
            if number == WARMUP:
                run_before = server.run_seconds()
            started = time.perf_counter()
            bare(views).numpy()
            bare_seconds.append(time.perf_counter() - started)
            seconds, content = ask(connection, body)
            served_seconds.append(seconds)
        run_after = server.run_seconds()
        run_mean = (run_after[0] - run_before[0]) / (run_after[1] - run_before[1])
        refine = body_of("refine", image_bytes=encoded(pictures[0]), state_bytes="")
        state = json.loads(ask(connection, refine)[1])["predictions"][0]["state_bytes"]
        refine = body_of("refine", image_bytes=encoded(pictures[1]), state_bytes=state)
        connection.close()
        return {
            "preset": preset,
            "request_bytes": len(body),
            "response_bytes": len(content),
            "bare_ms": round(1e3 * float(np.median(bare_seconds[WARMUP:])), 1),
            "served_ms": round(1e3 * float(np.median(served_seconds[WARMUP:])), 1),
            "run_ratio": round(run_mean / float(np.mean(bare_seconds[WARMUP:])), 3),
            "views_ms": {n: round(median_ms(server, voxels_body(pictures[:n])), 1) for n in VIEWS},
            "refine_ms": round(median_ms(server, refine), 1),
            "four_clients": four_clients(server, body),
            "memory_mb": round(server.memory()),
            "largest_request_mb": largest_request_mb(server, pictures),
        }


def measure_overhead(pictures, out):
    """Median milliseconds of a request to a graph that does nothing."""

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.string, "image_bytes")])
    def voxels(image_bytes):
        return {"voxels_bytes": tf.repeat(tf.constant([b"\xa5" * 4096]), tf.shape(image_bytes)[0])}

    module = tf.Module()
    folder = os.path.join(out, "nothing")
    tf.saved_model.save(module, os.path.join(folder, "1"), signatures={"voxels": voxels})
    with Server(folder, out) as server:
        return median_ms(server, voxels_body(pictures[:3]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--presets", default="tiny,gru_1,lstm_3,res_gru_3")
    parser.add_argument("--images", default="")
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        dataset.write_model(folder, "chair", index=0, num_views=max(VIEWS))
        pictures = [path.read_bytes() for path in sorted(pathlib.Path(folder).rglob("*.png"))]
    if arguments.images:
        given = [pathlib.Path(name).read_bytes() for name in arguments.images.split(",")]
        pictures[: len(given)] = given
    for preset in arguments.presets.split(","):
        print(json.dumps(measure(preset, pictures, arguments.out), indent=1), flush=True)
    overhead = measure_overhead(pictures, arguments.out)
    print(json.dumps({"overhead_ms": round(overhead, 2)}))


if __name__ == "__main__":
    main()
