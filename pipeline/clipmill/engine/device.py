"""What encoders run on: what was asked for, what this process has, and what is said where the two do not meet."""

import os
import sys
from typing import Literal

from clipmill.core.errors import RunFailed, UserError
from clipmill.core.gpus import fake_gpus, torch_and_driver, torch_sees_cuda
from clipmill.core.settings import ClusterSettings, Products

Device = Literal["auto", "gpu", "cpu"]
ON_GPU = "vectors are compared on a GPU, as asked for; that was not measured yet"
DECODED_ON_GPU = "JPEGs are decoded by the GPUs that encode, as asked for; that was not measured yet"


def declared(settings: ClusterSettings) -> Device:
    """The device that was asked for: a number of encoders on GPUs asks for GPUs. Raises UserError where the two differ."""
    if not settings.num_gpu_actors:
        return settings.device
    if settings.device == "cpu":
        raise UserError(
            "--num-gpu-actors asks for encoders on GPUs, and --device cpu for none there: leave one of them out"
        )
    return "gpu"


def named_cluster(settings: ClusterSettings) -> bool:
    """Whether a cluster was named, or this process is connected to one: then its GPUs count and not this machine's."""
    ray = sys.modules.get("ray")
    address = settings.address or os.environ.get("RAY_ADDRESS")
    return bool(address and address != "local") or (ray is not None and ray.is_initialized())


def check_device(settings: ClusterSettings) -> None:
    """Raises UserError where a GPU is asked for of this machine and it has none: before anything is read or loaded."""
    if declared(settings) == "gpu" and not named_cluster(settings) and not torch_sees_cuda():
        raise no_gpu_here(settings)


def check_vllm(settings: ClusterSettings) -> None:
    """Raises UserError where vLLM cannot run on what is asked for: it needs whole GPUs, of this machine or of a cluster."""
    if declared(settings) == "cpu":
        raise UserError("--engine vllm runs on GPUs, and --device cpu asks for none: leave one of them out")
    if not settings.gpus_per_actor.is_integer():
        raise UserError("--engine vllm takes whole GPUs: give --gpus-per-actor a whole number")
    if not named_cluster(settings) and not torch_sees_cuda():
        raise no_gpu_for_vllm(f"this machine has none that can be used ({torch_and_driver()})")


def no_gpu_for_vllm(missing: str) -> UserError:
    """The mistake of asking for vLLM where there is no GPU."""
    return UserError(
        f"--engine vllm runs on GPUs, and {missing}: name a cluster that has some with --address, or give --engine transformers"
    )


def no_gpu_here(settings: ClusterSettings) -> UserError:
    """The mistake of asking this machine for a GPU that it does not have."""
    asked = "--num-gpu-actors" if settings.num_gpu_actors else "--device gpu"
    return UserError(
        f"{asked}: this machine has no GPU that can be used ({torch_and_driver()}); leave it out to encode on the CPU, or "
        "name a cluster that has GPUs with --address"
    )


def check_decoding(decode: str, encoders: str) -> None:
    """Raises UserError where pictures are to be decoded by the GPU that encodes, and encoders run on the CPU."""
    if decode == "gpu" and encoders == "cpu" and not fake_gpus():
        raise UserError(
            "--decode gpu: pictures are decoded by the GPU that encodes them, and encoders run on CPUs here; leave it out"
        )


def check_products(products: Products, settings: ClusterSettings | None = None) -> bool:
    """Whether products of vectors are asked for on a GPU. Raises UserError where that is one of this machine, which it is
    without a cluster (None), and there is none."""
    if products != "gpu":
        return False
    if not fake_gpus() and not (settings and named_cluster(settings)) and not torch_sees_cuda():
        cluster = ", or name a cluster that has GPUs with --address" if settings else ""
        raise UserError(
            f"--products gpu: this machine has no GPU that can be used ({torch_and_driver()}); leave it out to compute on "
            f"cores{cluster}"
        )
    return True


def device_here(settings: ClusterSettings) -> tuple[Literal["cuda", "cpu"], str]:
    """What torch computes on in this process, and in words what was chosen and why."""
    if declared(settings) == "cpu":
        return "cpu", "on the CPU, as asked for"
    if torch_sees_cuda():
        return "cuda", "on the GPU of this machine"
    return "cpu", "on the CPU: this machine has no GPU that torch can use"


def enter_device(gpus: list[str], node: str) -> None:
    """The first step of an encoder that Ray gave these GPUs, before torch looks for any: one that was given none sees none,
    which Ray does not see to. Raises RunFailed where it was given some and there is no CUDA."""
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not fake_gpus() and not torch_sees_cuda():
        raise RunFailed(
            f"an encoder was given a GPU of node {node} and finds no CUDA there: {torch_and_driver()}; CUDA 13 needs driver "
            "580 or newer, and a container NVIDIA's toolkit. Mend the node, or give --device cpu"
        )
