"""How a stage has its pieces of work done: what a stage asks for, and what an engine gives. Knows no engine.

A piece is a function that anybody may call again: it leaves its result in the staging folder, and does nothing where the
result is there. So an engine may run it here, on another machine, or once more after a failure.
"""

from collections.abc import Callable
from typing import Any, Protocol

Alive = Callable[[], object]
"""A piece calls it when it has read or computed something, so that those who wait know that it is moving."""


def no_heartbeat() -> None:
    """For pieces that nobody waits for."""


class Pieces(Protocol):
    """Pieces of work under way. ``cores`` is the most that one piece can use, ``hardware`` describes where they run."""

    @property
    def cores(self) -> int: ...

    @property
    def hardware(self) -> dict[str, Any]: ...

    def share(self, value: Any) -> Any:
        """A handle to something that many pieces read; they are given the thing itself."""

    def cores_each(self, pieces: int) -> int:
        """Cores for each of so many pieces, so that together they use all there are."""

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
        """Has ``function(alive, *arguments)`` done with so many cores, where so many bytes of memory are to be had (0:
        anywhere), and with so many GPUs. ``what`` names it in messages ("filling shard 3").
        ``then`` is given the result, in this process, and may start other pieces."""

    def poll(self) -> None:
        """Takes in what has ended, without waiting. Raises as `wait` does."""

    def wait(self) -> None:
        """Returns when all pieces are done, those included that were started meanwhile. Raises what a piece raised that
        failed for good, once the others were stopped."""
