"""What one step of a run costs: measured, stated by its provider, or assumed; `docs/simulate.md` says which."""

from __future__ import annotations

from dataclasses import dataclass

PROCESS_BYTES = 16e9
"""That no process is to exceed: less than a head node has."""


@dataclass(frozen=True)
class Costs:
    """Seconds and bytes are of one core and one process; requests are S3's."""

    head_base_bytes: float = 0.6e9
    """Of the process that plans and follows, with torch and Ray loaded."""
    head_file_bytes: float = 5.0e3
    """Of a source file that it knows: path, version, row groups."""
    head_unit_bytes: float = 75.0
    """Of a unit in its arrays, and in those that planning makes on the way."""
    head_unit_seconds: float = 0.05e-3
    """That it takes of a core to follow a unit which others do."""
    plan_file_seconds: float = 65e-6
    plan_unit_seconds: float = 0.6e-6
    driver_base_bytes: float = 0.25e9
    """Of the driver of a slice before its first unit."""
    driver_unit_bytes: float = 46e3
    """Of a unit, kept by Ray Data until its execution ends."""
    driver_unit_seconds: float = 42e-3
    """That Ray Data takes of a core to have a unit read, decoded, encoded and committed."""
    actor_messages: float = 1400.0
    """A second that an actor takes in."""
    start_seconds: float = 45.0
    """Of a slice: its driver, its encoders, and the model on each of them."""
    s3_seconds: float = 0.03
    """That a request waits for its first byte."""
    node_bytes_a_second: float = 1.25e9
    """Of a node's network: 10 Gbit."""
    footer_threads: int = 256
    s3_puts: float = 3500.0
    """A second that one prefix takes, by AWS; ``s3_gets`` likewise."""
    s3_gets: float = 5500.0
    listed: int = 1000
    """Names in an answer to a listing."""
    put_price: float = 0.005e-3
    """Dollars a request that writes or lists, by AWS in us-east-1; ``get_price`` of one that reads."""
    get_price: float = 0.0004e-3
    copy_seconds: float = 0.2
    """Of a copy on the server, ``copies_at_once`` of which are under way."""
    copies_at_once: int = 16


MEASURED = Costs()
