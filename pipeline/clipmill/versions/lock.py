"""One run at a time works towards an output; the next one waits, or leaves."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from clipmill.core.errors import Occupied
from clipmill.storage.lease import Lease
from clipmill.versions.place import Place

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0


@contextmanager
def alone(place: Place, wait: float = 0.0) -> Iterator[Lease]:
    """Holds the output for the length of the block, after waiting up to ``wait`` seconds for another run to end.

    Raises Occupied when the other run is not done by then. A mark left by a dead run is taken over (`clipmill.storage.lease`).
    """
    deadline = time.monotonic() + wait
    with ExitStack() as stack:
        told = False
        while True:
            try:
                ownership = stack.enter_context(Lease.acquire(place.lock))
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
