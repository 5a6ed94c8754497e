"""The machines of a run: cores, GPUs and what those can do at most."""

from dataclasses import dataclass

from clipmill.core.errors import UserError
from clipmill.core.gpus import TERAFLOPS


@dataclass(frozen=True)
class Machine:
    """``cores`` are physical ones: of the vCPUs of a cloud two make one. ``gpu`` is None where it is not known which."""

    name: str
    cores: float
    gpus: int
    gpu: str | None = None

    def times(self, number: int) -> "Machine":
        """So many of these together."""
        name = self.name if number == 1 else f"{number} × {self.name}"
        return Machine(name, self.cores * number, self.gpus * number, self.gpu)


def _aws(name: str, vcpus: int, gpus: int = 0, gpu: str | None = None) -> Machine:
    return Machine(name, vcpus / 2, gpus, gpu)


MACHINES = {
    machine.name: machine
    for machine in (
        _aws("m5.2xlarge", 8),
        _aws("c5.4xlarge", 16),
        _aws("c5.9xlarge", 36),
        _aws("g4dn.xlarge", 4, 1, "T4"),
        _aws("g4dn.12xlarge", 48, 4, "T4"),
        _aws("p3.8xlarge", 32, 4, "V100"),
        _aws("g5.xlarge", 4, 1, "A10G"),
        _aws("g5.4xlarge", 16, 1, "A10G"),
        _aws("g5.12xlarge", 48, 4, "A10G"),
        _aws("g6.xlarge", 4, 1, "L4"),
        _aws("g6.4xlarge", 16, 1, "L4"),
        _aws("g6.12xlarge", 48, 4, "L4"),
        _aws("g6e.xlarge", 4, 1, "L40S"),
        _aws("g6e.4xlarge", 16, 1, "L40S"),
        _aws("g6e.12xlarge", 48, 4, "L40S"),
        _aws("p4d.24xlarge", 96, 8, "A100"),
        _aws("p5.48xlarge", 192, 8, "H100"),
        _aws("p5en.48xlarge", 192, 8, "H200"),
    )
}
"""Instance types of AWS: vCPUs and GPUs as its list of instance types gives them."""


def parse_machine(text: str) -> Machine:
    """A type by name, or ``CORES``, ``CORES,GPUS`` or ``CORES,GPUS,KIND``: 32,4,L4. Raises UserError for anything else."""
    if text in MACHINES:
        return MACHINES[text]
    parts = [part.strip() for part in text.split(",")]
    try:
        cores, gpus = float(parts[0]), int(parts[1]) if len(parts) > 1 else 0
    except ValueError:
        cores, gpus = 0.0, 0
    gpu = next((name for name in TERAFLOPS if name == parts[2].upper()), None) if len(parts) == 3 else None
    if not 0 < cores < 1e6 or gpus < 0 or len(parts) > 3 or (len(parts) == 3 and gpu is None):
        raise UserError(
            f"--machine {text}: give a type ({', '.join(MACHINES)}), or cores, GPUs and their kind: 8 or 32,4,L4 (kinds: "
            f"{', '.join(TERAFLOPS)})"
        )
    said = f"{cores:g} cores" + (f", {gpus} {gpu or 'GPU'}" if gpus else "")
    return Machine(said, cores, gpus, gpu)
