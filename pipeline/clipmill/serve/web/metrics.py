"""What is counted, in Prometheus' text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from clipmill.serve.service import Service

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "clipmill_requests", "Requests that were answered.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "clipmill_request_seconds", "Time to answer.", ["route"], buckets=_BUCKETS, registry=self._registry
        )
        self._inside = Gauge(
            "clipmill_requests_inside", "Requests that are answered or wait now.", registry=self._registry
        )
        self._rows = Gauge("clipmill_index_rows", "Rows of each index.", ["index", "version"], registry=self._registry)
        self._removed = Gauge(
            "clipmill_index_removed_rows", "Rows left out that were taken down.", ["index"], registry=self._registry
        )
        self._changes = Counter(
            "clipmill_index_changes",
            "Versions switched, takedowns followed, and looks at a place that failed.",
            ["index", "change"],
            registry=self._registry,
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def changed(self, index: str, change: str) -> None:
        self._changes.labels(index, change).inc()

    def text(self, service: Service | None, inside: int) -> bytes:
        self._inside.set(inside)
        self._rows.clear()
        for one in service.indices if service else ():
            served = one.current
            self._rows.labels(one.name, served.opened.version or "").set(served.index.n)
            self._removed.labels(one.name).set(len(served.hidden))
        found: bytes = generate_latest(self._registry)
        return found
