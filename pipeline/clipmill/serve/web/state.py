"""What the paths work with while the service runs."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clipmill.serve.answers.query import Asked
from clipmill.serve.answers.request import SearchRequest
from clipmill.serve.service import Service
from clipmill.serve.web.admission import Admission
from clipmill.serve.web.metrics import Metrics


class QueryLog(Protocol):
    """Where searches are kept, if they are."""

    def add(self, kind: str, k: int, text: str | None, vectors: NDArray[np.float32]) -> None: ...

    def close(self) -> None: ...


@dataclass
class Running:
    """The service, how many are let into it, and what is counted. ``queries`` is where searches are kept; None: nowhere."""

    service: Service
    admission: Admission
    metrics: Metrics
    queries: QueryLog | None = None
    draining: bool = field(default=False)

    def asked(self, request: SearchRequest, query: Asked) -> None:
        if self.queries is not None:
            text = request.parts[0].text if query.kind == "text" else None
            self.queries.add(query.kind, request.k, text, query.vector)

    def asked_vectors(self, vectors: NDArray[np.float32], k: int) -> None:
        if self.queries is not None:
            self.queries.add("vector", k, None, vectors)
