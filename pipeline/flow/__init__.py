"""The only room that knows Ray: the embed and index graphs, and the cluster they run on."""

import os
from pathlib import Path

# Read by Ray when it is imported: its messages go to its log files, and after the end of a run, or Ctrl-C, a thread that
# is still winding down does not start another cluster.
os.environ.setdefault("RAY_DATA_LOGGING_CONFIG", str(Path(__file__).parent / "ray_data_logging.yaml"))
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
