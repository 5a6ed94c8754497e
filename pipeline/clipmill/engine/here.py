"""Pieces of work done in this process, one after the other: no cluster, no copies, no start-up."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import faiss

from clipmill.core import environment
from clipmill.stage.pieces import no_heartbeat


class Here:
    """The engine of small work (`clipmill.stage.pieces.Pieces`), with the threads of ``cores`` cores."""

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self._waiting: deque[tuple[Callable[[], Any], int, Callable[[Any], object]]] = deque()

    @property
    def hardware(self) -> dict[str, Any]:
        return {**environment.hardware(), "cpus": self.cores, "gpus": 0, "nodes": 1}

    def share(self, value: Any) -> Any:
        """The thing itself: all pieces are in one process."""
        return value

    def cores_each(self, pieces: int) -> int:
        """All cores: pieces run one at a time."""
        return self.cores

    def start(
        self,
        what: str,
        function: Callable[..., Any],
        *arguments: Any,
        cores: float = 1,
        memory: int = 0,
        gpus: float = 0,
        then: Callable[[Any], object] = lambda result: None,
    ) -> None:
        """Puts the piece behind those that wait; memory and GPUs of this process are what there is."""
        self._waiting.append((lambda: function(no_heartbeat, *arguments), max(1, int(cores)), then))

    def poll(self) -> None:
        """Does nothing: pieces are done when they are waited for."""

    def wait(self) -> None:
        """Does the pieces in the order in which they were started. Raises what one raises."""
        logging.getLogger("faiss").setLevel(logging.ERROR)
        before = faiss.omp_get_max_threads()
        try:
            while self._waiting:
                piece, threads, then = self._waiting.popleft()
                faiss.omp_set_num_threads(threads)
                then(piece())
        finally:
            self._waiting.clear()
            faiss.omp_set_num_threads(before)
