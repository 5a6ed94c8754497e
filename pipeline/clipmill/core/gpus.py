"""What kinds of GPU can do at most."""

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
