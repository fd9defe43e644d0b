"""Counts and times of requests, and the Prometheus page that TensorFlow Serving would show."""

import bisect
import re
import threading

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric

_PREFIX = ":tensorflow:serving:"
# Upper bounds in microseconds, each 1.8 times the one before.
_BOUNDS = [10 * 1.8**power for power in range(32)]
# The library gives counters a suffix that TensorFlow Serving does not.
_SUFFIX = re.compile(rf"^(# \w+ {_PREFIX}\w+?)_total ", re.MULTILINE)


class _Histogram:
    def __init__(self):
        self.counts = [0] * (len(_BOUNDS) + 1)
        self.sum = 0.0

    def add(self, value):
        self.counts[bisect.bisect_right(_BOUNDS, value)] += 1
        self.sum += value

    def buckets(self):
        bounds = [f"{bound:.6g}" for bound in _BOUNDS] + ["+Inf"]
        total, found = 0, []
        for bound, count in zip(bounds, self.counts, strict=True):
            total += count
            found.append((bound, total))
        return found


class Monitor:
    """Counts requests; safe to call from any thread."""

    def __init__(self):
        self._lock = threading.Lock()
        self._requests = {}
        self._histograms = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def count(self, model: str, status: str) -> None:
        """Counts a request to `model` that ended with `status`."""
        with self._lock:
            key = (model, status)
            self._requests[key] = self._requests.get(key, 0) + 1

    def request_took(self, model: str, method: str, seconds: float) -> None:
        """Notes how long an answer took, its arrival left out."""
        self._add("request_latency", seconds, model_name=model, API=method, entrypoint="REST")

    def run_took(self, model: str, seconds: float) -> None:
        """Notes how long a run of the graph took."""
        self._add("runtime_latency", seconds, model_name=model, API="Predict", runtime="TF1")

    def warmup_took(self, path: str, status: str, seconds: float) -> None:
        """Notes how long the warm-up of a version took, and how it ended."""
        self._add("model_warmup_latency", seconds, model_path=path, status=status)

    def _add(self, name, seconds, **labels):
        key = (name, tuple(labels.items()))
        with self._lock:
            self._histograms.setdefault(key, _Histogram()).add(1e6 * seconds)

    def collect(self):
        """The metrics, as prometheus_client asks for them."""
        with self._lock:
            requests = Metric(f"{_PREFIX}request_count", "Requests by model and status.", "counter")
            for (model, status), count in self._requests.items():
                labels = {"model_name": model, "status": status}
                requests.add_sample(f"{_PREFIX}request_count", labels, count)
            families = {}
            for (name, labels), histogram in self._histograms.items():
                names, given = zip(*labels, strict=True)
                if name not in families:
                    families[name] = HistogramMetricFamily(
                        f"{_PREFIX}{name}", "Microseconds.", labels=names
                    )
                families[name].add_metric(given, histogram.buckets(), histogram.sum)
        return [requests, *families.values()]

    def page(self) -> bytes:
        """The Prometheus page."""
        return _SUFFIX.sub(r"\1 ", generate_latest(self._registry).decode()).encode()
