"""What the built-in model that writes is called, where it lies, and what has to be known of it."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from clipmill.encoders.caution import SCENE_COLUMNS
from clipmill.source.input_file import InputFile

BUILTIN_WRITER = "builtin-writer"
BUILTIN_WRITER_FOLDER = Path(__file__).parent / "builtin"
REAL_WRITER = "transformers:HuggingFaceTB/SmolVLM-256M-Instruct"
"""An answer to what to use instead: small, and instructed."""


def caution(name: str, inputs: Iterable[InputFile], command: str, input: str) -> str:
    """What has to be known of texts that the built-in model writes about anything but rendered scenes, with the command that
    names a real one; empty where there is nothing to say."""
    if name != BUILTIN_WRITER or all(set(file.schema.names) >= SCENE_COLUMNS for file in inputs):
        return ""
    return (
        "the built-in model that writes knows rendered scenes and nothing of photographs: what it says of them means nothing. "
        f"For a model that does, type: clipmill {command} --input {shlex.quote(input)} --output NEW --model {REAL_WRITER}"
    )
