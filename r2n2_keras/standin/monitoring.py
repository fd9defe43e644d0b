"""Counts and times of requests, on a Prometheus page with TensorFlow Serving's names."""

import prometheus_client as prometheus

_PREFIX = ":tensorflow:serving:"
# Upper bounds in microseconds, each 1.8 times the one before.
_BOUNDS = [float(f"{10 * 1.8**power:.6g}") for power in range(32)]


class Monitor:
    """Counts requests; safe to call from any thread."""

    def __init__(self):
        prometheus.disable_created_metrics()
        self._registry = registry = prometheus.CollectorRegistry()
        labels = ("model_name", "status")
        self._requests = prometheus.Counter(
            f"{_PREFIX}request_count", "Requests by status.", labels, registry=registry
        )
        self._answers = self._histogram("request_latency", "model_name", "API", "entrypoint")
        self._runs = self._histogram("runtime_latency", "model_name", "API", "runtime")

    def _histogram(self, name, *labels):
        options = {"registry": self._registry, "buckets": _BOUNDS}
        return prometheus.Histogram(_PREFIX + name, "Microseconds.", labels, **options)

    def answered(self, model: str, status: str, seconds: float) -> None:
        """Notes a predict request, how it ended and how long that took, its arrival left out."""
        self._requests.labels(model, status).inc()
        self._answers.labels(model, "predict", "REST").observe(1e6 * seconds)

    def ran(self, model: str, seconds: float) -> None:
        """Notes how long a run of the graph took."""
        self._runs.labels(model, "Predict", "TF1").observe(1e6 * seconds)

    def page(self) -> bytes:
        # The library gives counters a suffix that TensorFlow Serving does not.
        page = prometheus.generate_latest(self._registry)
        return page.replace(b":request_count_total", b":request_count")
