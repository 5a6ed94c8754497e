"""A loaded model in a form that travels: read from disk once, in the driver, and shared by all encoders of a node.

The weights are plain arrays apart from everything else. Where arrays are handed between processes through shared memory,
as in Ray's object store, a node holds them once however many encoders it has, and encoders on a CPU compute on that very
memory. No node but the driver's needs the file that they came from.
"""

import copy
import pickle
import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from clipmill.core.settings import ModelSettings
from clipmill.encoders.model import ClipModel, choose_batch_size, choose_device
from clipmill.encoders.precision import choose_precision
from clipmill.encoders.tokens import Tokenizer


@dataclass(frozen=True)
class Shipment:
    """A model: ``arrays`` are its parameters and buffers by name, ``rest`` pickles everything but their values."""

    rest: bytes
    arrays: dict[str, NDArray[np.generic]]


def ship(model: ClipModel, *, texts: bool = True) -> Shipment:
    """Takes a model on the CPU apart. ``texts``: whether it will encode any, for which it takes along how its tokens are
    laid out; the tokenizer itself stays (`ship_tokenizer`)."""
    form = model.token_form if texts else None
    network = model.network
    named = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    tensors = dict(named)
    arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    memo = {id(tensor): tensor.detach().to("meta") for tensor in tensors.values()}
    hollow = copy.deepcopy(network, memo)
    return Shipment(pickle.dumps((replace(model, network=hollow), form)), arrays)


def ship_tokenizer(model: ClipModel) -> bytes:
    """The tokenizer of a model, for workers that have no model."""
    return pickle.dumps(model.tokenizer)


def unship_tokenizer(shipped: bytes) -> Tokenizer:
    """The tokenizer that was shipped."""
    tokenizer: Tokenizer = pickle.loads(shipped)
    return tokenizer


def unship(shipment: Shipment, settings: ModelSettings) -> ClipModel:
    """The model on this process's device, at the precision and batch size of the settings.

    On a CPU its weights are the shipment's arrays themselves, which may be memory that cannot be written.
    """
    model, form = pickle.loads(shipment.rest)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        for name, array in shipment.arrays.items():
            _put(model.network, name, torch.from_numpy(array))
    here = placed(model, settings)
    if form is not None:
        vars(here)["token_form"] = form
    return here


def placed(model: ClipModel, settings: ModelSettings, device: str | None = None) -> ClipModel:
    """The model on a device, by default this process's best, at the precision and batch size of the settings."""
    chosen = choose_device(device)
    return replace(
        model,
        network=model.network.to(chosen),
        device=chosen,
        precision=choose_precision(settings, chosen, model.network),
        batch_size=choose_batch_size(settings, chosen),
    )


def _put(network: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = network.get_submodule(path)
    if leaf in module._parameters:
        module._parameters[leaf] = torch.nn.Parameter(tensor, requires_grad=False)
    else:
        module._buffers[leaf] = tensor
