"""A folder with a model of transformers: what it is by its files alone, and the model with its processor."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings
from clipmill.encoders.library import download, find_place

_WEIGHTS = ("*.safetensors", "*.bin")
_ABOUT = ("*.index.json", "README*", "*.md", "recipe.yaml")
_READ = 1 << 22


@dataclass(frozen=True)
class ModelFolder:
    """The files of the model that ``--model`` calls ``name``."""

    name: str
    path: Path

    def configuration(self) -> dict[str, Any]:
        """``config.json``. Raises UserError where it cannot be read."""
        try:
            found = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict):
            raise UserError(
                f"--model {self.name}: {self.path / 'config.json'} cannot be read as the configuration of a model"
            )
        return found

    def sha256(self) -> dict[str, str]:
        """Of the weights, and of what makes pictures and words into inputs, as identities have them. Raises UserError where
        there are no weights that can be read without executing code."""
        weights = sorted(self.path.glob("*.safetensors"))
        if not weights:
            raise UserError(
                f"--model {self.name}: {self.path} has no weights in safetensors; others would execute code when read"
            )
        return {
            "weights_sha256": files_sha256(weights),
            "processor_sha256": files_sha256(processor_files(self.path)),
        }

    def load(self, kind: str, *, bf16: bool) -> tuple[Any, Any]:
        """A network of a class of transformers, and its processor. Raises UserError where they cannot be loaded whole."""
        import torch
        import transformers

        from clipmill.encoders.source import quiet
        from clipmill.encoders.weights import first_line

        transformers.utils.logging.disable_progress_bar()
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet():
                processor = transformers.AutoProcessor.from_pretrained(self.path, **options)
                network, told = getattr(transformers, kind).from_pretrained(
                    self.path,
                    dtype=torch.bfloat16 if bf16 else torch.float32,
                    use_safetensors=True,
                    output_loading_info=True,
                    **options,
                )
        except ImportError as error:
            raise UserError(f"--model {self.name} needs a package that is not installed: {first_line(error)}") from None
        except Exception as error:
            raise UserError(
                f"--model {self.name}: {self.path} cannot be loaded ({first_line(error)}); it needs the files of its processor "
                "and tokenizer beside config.json and the weights"
            ) from None
        if missing := sorted(told["missing_keys"]):
            raise UserError(
                f"--model {self.name}: {self.path} has no weights for {len(missing)} tensors, such as {missing[0]}"
            )
        return network.eval().requires_grad_(False), processor


def folder_here(name: str, folder: Path, settings: ModelSettings) -> ModelFolder:
    """The folder on this machine, which may be another than the one that the run began on. Raises UserError."""
    if folder.is_dir():
        return ModelFolder(name, folder)
    place = find_place(settings)
    if not place.repository:
        raise UserError(
            f"--model {name}: {folder} is not on the node {platform.node()}; put it at the same place on every node, or name "
            "the model on the hub (transformers:ORG/NAME)"
        )
    return ModelFolder(name, download(place, code=False))


def processor_files(folder: Path) -> list[Path]:
    """The files that make pictures and words into inputs, and the configuration."""
    left_out = {file for pattern in (*_WEIGHTS, *_ABOUT) for file in folder.glob(pattern)}
    return sorted(file for file in folder.iterdir() if file.is_file() and file not in left_out and file.name[0] != ".")


def files_sha256(files: list[Path]) -> str:
    """sha256 over names and bytes of files."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while data := stream.read(_READ):
                digest.update(data)
    return digest.hexdigest()
