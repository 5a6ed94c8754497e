"""What kinds of GPU can do at most, and whether this process can compute on one."""

import os
import subprocess

FAKE_GPUS = "CLIPMILL_FAKE_GPUS"
"""Set in the environment of a cluster, for tests only: its GPUs are numbers, and what gets one computes on the CPU."""
_TELLS = 10
"""Seconds for nvidia-smi, which hangs where a driver does."""

TERAFLOPS = {
    "T4": 65.0,
    "V100": 125.0,
    "A10G": 70.0,
    "L4": 121.0,
    "L40S": 362.0,
    "A100": 312.0,
    "H100": 989.0,
    "H200": 989.0,
}
"""Dense operations in 16 bits a second, in 10¹², as NVIDIA's data sheets give them (SXM where there are several)."""


def peak_flops(name: str) -> float | None:
    """Operations in 16 bits a second of a GPU by the name that its driver gives it; None for one that is not known."""
    words = name.upper().replace("-", " ").split()
    return next((1e12 * peak for kind, peak in TERAFLOPS.items() if kind in words), None)


def torch_sees_cuda() -> bool:
    """Whether this process can compute on a GPU."""
    import torch

    return torch.cuda.is_available()


def fake_gpus() -> bool:
    """Whether GPUs are numbers only."""
    return bool(os.environ.get(FAKE_GPUS))


def torch_and_driver() -> str:
    """The versions that have to fit together, in words."""
    import torch

    return f"torch {torch.__version__.split('+')[0]} for CUDA {torch.version.cuda or 'none'}, {_driver()}"


def _driver() -> str:
    """The version of NVIDIA's driver in words."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_TELLS, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        told = []
    return f"driver {told[0]}" if told else "no driver (nvidia-smi tells none)"
