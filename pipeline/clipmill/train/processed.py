"""A model of transformers that is to be trained, with the processor that makes its inputs of pictures and words."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings, TrainSettings
from clipmill.encoders.adapters.normalisation import Normalisation
from clipmill.encoders.adapters.prepared import ProcessorPreparation, processor_file
from clipmill.encoders.library import TRANSFORMERS, download, find_place, require
from clipmill.encoders.source import quiet
from clipmill.encoders.weights import first_line
from clipmill.storage import Location
from clipmill.train.learner import Weights
from clipmill.train.parts import freeze


@dataclass(frozen=True)
class Processed:
    """Where the files of a model are, whether its weights are to be taken too, and what its processor does."""

    name: str
    folder: Path
    trained: bool
    processor: Any
    pictures: ProcessorPreparation
    normalisation: Normalisation

    @staticmethod
    def find(settings: TrainSettings) -> "Processed":
        """The model that the settings name, without its weights. Raises UserError for one that is not there, or whose pictures
        have different sizes."""
        require(TRANSFORMERS, f"--loss {settings.loss}")
        import transformers

        place = find_place(ModelSettings(model=settings.model, pretrained=settings.pretrained))
        if place.library != TRANSFORMERS:
            raise UserError(
                f"--loss {settings.loss} trains a model of transformers: give --model a folder with its config.json and its "
                "processor, or --pretrained one with its weights too"
            )
        transformers.utils.logging.disable_progress_bar()
        folder = download(place, code=False)
        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet():
                processor = transformers.AutoProcessor.from_pretrained(folder, **options)
        except Exception as error:
            raise UserError(
                f"--model {place.name}: {folder} has no processor that can be loaded ({first_line(error)})"
            ) from None
        pictures = ProcessorPreparation.of(processor.image_processor, processor_file(folder))
        trained = settings.pretrained is not None
        return Processed(place.name, folder, trained, processor, pictures, Normalisation.of(pictures))

    def network(self, kind: Any, settings: TrainSettings) -> Any:
        """A network of a class of transformers, with fresh weights that the seed decides or with those in the folder. Raises
        UserError where it cannot be loaded."""
        import transformers

        torch.manual_seed(settings.seed)
        try:
            with quiet():
                if self.trained:
                    options = {"use_safetensors": True, "local_files_only": True}
                    network = kind.from_pretrained(self.folder, dtype=torch.float32, **options)
                else:
                    config = transformers.AutoConfig.from_pretrained(self.folder, local_files_only=True)
                    make = kind.from_config if hasattr(kind, "from_config") else kind._from_config
                    network = make(config, dtype=torch.float32)
        except Exception as error:
            raise UserError(f"--model {self.name}: {self.folder} cannot be loaded ({first_line(error)})") from None
        freeze(network, settings.freeze)
        if settings.checkpoint_activations:
            network.gradient_checkpointing_enable()
        return network

    def values(self, pixels: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
        """What the network takes of prepared pictures, uint8 (n, 3, height, width), on its device and in its type."""
        weight = next(network.parameters())
        found = self.normalisation.inputs(self.pictures, pixels.to(weight.device))["pixel_values"]
        return found.to(weight.dtype)

    def write(self, folder: Location, network: Any, weights: Weights) -> None:
        """Model and processor, as transformers loads them from a folder."""
        with TemporaryDirectory(prefix="clipmill-") as made, quiet():
            network.save_pretrained(made, state_dict=weights)
            self.processor.save_pretrained(made)
            for file in sorted(Path(made).iterdir()):
                storage.write_bytes(folder / file.name, file.read_bytes())
