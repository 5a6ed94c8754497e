"""One run at a time works towards an output, and one command at a time chooses or deletes versions; the next one waits, or
leaves."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from clipmill.core.errors import Occupied
from clipmill.storage import Location
from clipmill.storage.lease import Lease

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0


@contextmanager
def alone(lock: Location, wait: float = 0.0) -> Iterator[Lease]:
    """Holds a lease of a `Place` for the length of the block, after waiting up to ``wait`` seconds for another to end.

    ``Place.run_lock`` is a run's for all its time, and that of who deletes what a run reads; ``Place.pointer_lock`` is for
    who chooses a version or deletes one: so a version can be chosen while a run is at work.

    Raises Occupied when the other is not done by then. What a dead process held is taken over (`clipmill.storage.lease`).
    """
    deadline = time.monotonic() + wait
    with ExitStack() as stack:
        told = False
        while True:
            try:
                ownership = stack.enter_context(Lease.acquire(lock))
                break
            except Occupied as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    if not wait:
                        raise Occupied(f"{error}; or give --wait SECONDS") from None
                    raise
                if not told:
                    _LOG.info("waiting up to %.0f s: %s", left, error)
                    told = True
                time.sleep(min(_LOOK_SECONDS, left))
        yield ownership
