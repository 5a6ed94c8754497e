"""What decides the identity of weights, whichever library loaded them."""

import hashlib

import torch


def weights_sha256(network: torch.nn.Module) -> str:
    """sha256 over names, shapes and float32 values of all weights: the same for one model in any kind of file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float32)
        digest.update(memoryview(tensor.contiguous().view(-1).numpy()).cast("B") if tensor.numel() else b"")
    return digest.hexdigest()


def first_line(error: Exception) -> str:
    """What an error of another library says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
