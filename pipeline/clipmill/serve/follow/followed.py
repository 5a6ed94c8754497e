"""One served index: what its URI names is looked at again and again, and what changed there changes here at once."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipmill.core.errors import ClipmillError
from clipmill.index.search.open import open_index as open_whole
from clipmill.serve.answers.opened import Opened, Served
from clipmill.serve.follow.hidden import hidden_positions
from clipmill.serve.follow.open import Open, open_target
from clipmill.serve.follow.target import Target, target_of
from clipmill.versions.takedown import Takedown, read_removed

LOOK_SECONDS = 2.0
"""Between two looks at a place: of one small file each for the version and the takedowns."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """What is answered from, and what was taken down by then."""

    served: Served
    taken: Takedown


class Followed:
    """An index under a ``name``, open. `current` is replaced whole: who has taken it answers from it to the end, and the
    files of an old version are let go with the last of these answers."""

    def __init__(
        self,
        name: str,
        uri: str,
        cache: Path,
        on_change: Callable[[str, str], object] = lambda *told: None,
        open_index: Open = open_whole,
    ) -> None:
        """Opens the index. ``on_change`` is told the name and what happened: switched, removed, failed. Raises as
        `clipmill.serve.follow.open.open_target` does."""
        self.name = name
        self.uri = uri
        self._cache = cache
        self._on_change = on_change
        self._open_index = open_index
        self._looking = threading.Lock()
        self._said: str | None = None
        self.failing_since: float | None = None
        target = target_of(uri)
        self.target = target
        self._state = _opened(open_target(name, target, cache, open_index), target)

    @property
    def current(self) -> Served:
        return self._state.served

    def look(self) -> None:
        """Switches to another version where there is one, and hides what was taken down since. What cannot be read leaves
        all as it is; the next look tries again."""
        with self._looking:
            try:
                target = target_of(self.uri) if self.target.followed else self.target
                if target.version != self._state.served.opened.version:
                    self._state = _opened(open_target(self.name, target, self._cache, self._open_index), target)
                    self.target = target
                    self._told("switched", f"{self.name}: version {target.version} is read from now on")
                elif (taken := _taken(target)) != self._state.taken:
                    served = Served(self.current.opened, hidden_positions(self.current.opened, taken))
                    self._state = State(served, taken)
                    self._told("removed", f"{self.name}: {len(served.hidden):,} rows are left out that were taken down")
                self.failing_since, self._said = None, None
            except (ClipmillError, OSError) as error:
                self.failing_since = self.failing_since or time.time()
                self._on_change(self.name, "failed")
                if self._said != str(error):
                    self._said = str(error)
                    _LOG.warning("%s: still version %s: %s", self.name, self.current.opened.version, error)

    def _told(self, what: str, sentence: str) -> None:
        self._on_change(self.name, what)
        _LOG.info(sentence)


def _taken(target: Target) -> Takedown:
    return read_removed(target.place) if target.place else Takedown()


def _opened(opened: Opened, target: Target) -> State:
    taken = _taken(target)
    hidden = hidden_positions(opened, taken) if len(taken) else np.empty(0, np.int64)
    return State(Served(opened, hidden), taken)


class Watch:
    """Looks at all followed indices from a thread of its own, until it is stopped."""

    def __init__(self, indices: list[Followed], seconds: float = LOOK_SECONDS) -> None:
        self._indices = indices
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clipmill-watch", daemon=True)

    def start(self) -> None:
        if any(one.target.place for one in self._indices):
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            for one in self._indices:
                try:
                    one.look()
                except Exception:  # whatever it is, the next look may go well, and what is open stays open
                    _LOG.exception("%s: looking at %s failed", one.name, one.uri)
