"""Where a model computes: how batches get there, and how long it was busy with them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch


class Meter:
    """How long a device computed for one piece of work; ``seconds`` is complete once its results were fetched."""

    def __init__(self) -> None:
        self._measured = 0.0
        self._spans: list[tuple[Any, Any]] = []

    def add(self, seconds: float) -> None:
        """So much more."""
        self._measured += seconds

    def between(self, start: Any, end: Any) -> None:
        """The time between two events on a stream of a GPU."""
        self._spans.append((start, end))

    @property
    def seconds(self) -> float:
        """Sum of all that was measured."""
        milliseconds = [float(start.elapsed_time(end)) for start, end in self._spans]
        return self._measured + sum(milliseconds) / 1000


class Device(Protocol):
    """Takes batches in and times what is computed of them. Threads may share one."""

    def moved(self, batch: torch.Tensor) -> torch.Tensor:
        """The batch, which is on the CPU, where the device can compute with it."""
        ...

    def computing(self, meter: Meter) -> Any:
        """A context: what its block computes or launches is one batch's work, and is timed."""
        ...


class Cpu:
    """The processor itself, where a batch is computed when the call returns."""

    def moved(self, batch: torch.Tensor) -> torch.Tensor:
        """The batch as it is."""
        return batch

    @contextmanager
    def computing(self, meter: Meter) -> Iterator[None]:
        """Times the block by the clock."""
        began = time.perf_counter()
        yield
        meter.add(time.perf_counter() - began)


class Cuda:
    """A GPU, which computes a batch while the next is copied to it and those before are unpacked and packed here.

    Batches are copied from pinned memory (torch keeps it and uses it again) on a stream of their own. Threads launch their
    batches in turns, so that the events around one batch time that batch alone: where the GPU waits, nothing is timed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device)
        self._turn = threading.Lock()

    def moved(self, batch: torch.Tensor) -> torch.Tensor:
        """The batch on the GPU, once its copy is done; this process does not wait for that."""
        pinned = batch.pin_memory()
        with torch.cuda.stream(self._copies):
            there = pinned.to(self._device, non_blocking=True)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._copies)
        there.record_stream(current)  # its memory is not given to the next copy before it was read
        return there

    @contextmanager
    def computing(self, meter: Meter) -> Iterator[None]:
        """Times what the block launches by events before and after it."""
        with self._turn:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
        meter.between(start, end)


def device_of(device: torch.device) -> Device:
    """What takes batches to this device."""
    return Cuda(device) if device.type == "cuda" else Cpu()
