"""What a process of clipmill does first: a command, a call of the Python API, a Ray worker. Importing does none of it."""

import os
from pathlib import Path

from clipmill.core.compiler import leave_out_compiler
from clipmill.core.processor import name_kernels

_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_DATA_LOGGING_CONFIG": str(Path(__file__).parent / "ray_data_logging.yaml"),  # its messages go to its log files
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread that outlives a run, or Ctrl-C, must not start another cluster
}


def prepare_process() -> None:
    """Sets what FAISS, torchvision, open_clip and Ray read when they are imported; does nothing the second time.

    What the user has set in the environment stays.
    """
    name_kernels()
    leave_out_compiler()
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
