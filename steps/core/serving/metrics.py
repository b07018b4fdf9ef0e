"""What the server counts for Prometheus: requests, rows, errors, latency, the version that answers and the alias's age.

Several processes of one server add up in the folder of prometheus_client's environment variable.
"""

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from steps.core.serving.followed_model import FollowedModel

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # environment variable of prometheus_client
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# A row takes a millisecond, a hundred thousand seconds.
LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The numbers of one process, or with FOLDER in the environment of all processes of one server."""

    def __init__(self) -> None:
        disable_created_metrics()  # a second line for each number
        own = CollectorRegistry()
        self._requests = Counter("serving_requests", "Requests to /invocations.", ["status"], registry=own)
        self._errors = Counter("serving_errors", "Requests without predictions, by kind.", ["kind"], registry=own)
        self._rows = Counter("serving_rows", "Rows that were scored.", registry=own)
        self._seconds = Histogram(
            "serving_request_seconds", "From a request to its answer.", buckets=LATENCY_BUCKETS, registry=own
        )
        self._version = Gauge(
            "serving_model_version",
            "The version that answers; while the alias moves, the newest of all processes.",
            ["name"],
            registry=own,
            multiprocess_mode="livemax",
        )
        self._loads = Counter("serving_model_loads", "Versions that were loaded.", registry=own)
        self._alias_age = Gauge(
            "serving_alias_age_seconds",
            "Since the alias was read; of several processes the oldest, at its last attempt.",
            registry=own,
            multiprocess_mode="livemax",
        )
        self._rendered = own
        if FOLDER in os.environ:
            self._rendered = CollectorRegistry()
            MultiProcessCollector(self._rendered, Path(os.environ[FOLDER]))

    def count(self, status: int, *, seconds: float, rows: int = 0, kind: str = "") -> None:
        """One request to /invocations; `kind` is that of its refusal."""
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)
        if rows:
            self._rows.inc(rows)
        if kind:
            self._errors.labels(kind).inc()

    def loaded(self, name: str, version: str) -> None:
        """Count that a version was loaded, which answers from now on."""
        self._version.labels(name).set(int(version))
        self._loads.inc()

    def text(self, followed: FollowedModel) -> bytes:
        """All of them in Prometheus's text format."""
        self._alias_age.set(followed.seconds_since_read)
        return generate_latest(self._rendered)
