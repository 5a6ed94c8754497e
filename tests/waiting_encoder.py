"""The command line with small units and encoders that wait for a file: a test says when they go on, not the machine's speed."""

import os
import sys
import time
from pathlib import Path

import pyarrow as pa

from clipmill.engine.embed_stages import Encoder

ROWS_A_UNIT = 64
_AT_ONCE = 2
"""Units before that are encoded without waiting: a run is under way when its pool grows."""


def gate(home: Path) -> Path:
    """The file that encoders wait for, in the home of their nodes."""
    return home / "encode"


class WaitingEncoder(Encoder):
    """Encodes units once the file is there. Workers import it by name."""

    def __call__(self, block: pa.Table) -> pa.Table:
        while block.column("unit")[0].as_py() >= _AT_ONCE and not gate(Path(os.environ["HOME"])).exists():
            self._alive()
            time.sleep(0.5)
        return super().__call__(block)


def main() -> None:
    """The command line."""
    import waiting_encoder
    from clipmill.engine import embed_graph
    from clipmill.source import cutting
    from clipmill_jobs.__main__ import main as command_line

    embed_graph.Encoder = waiting_encoder.WaitingEncoder  # type: ignore[misc]
    cutting.MAX_ROWS = ROWS_A_UNIT
    command_line()


if __name__ == "__main__":
    sys.exit(main())
