"""What `caption` and `ask --choices` take in the steady state, beside a loop of nothing but the library's own calls.

    python -m benchmarks.words [--model FOLDER] [--rounds 3] [--most 60] [--output docs/words_speed.md]

In CPU seconds of one process with one thread, so that what else a machine does matters little; from the commit of one unit of
rows to that of a later one, so that loading and publishing are left out. The loop decodes pictures, calls the processor,
`generate` and the tokenizer, with the same batches of the same pictures.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from PIL import Image

from clipmill.core.environment import hardware
from clipmill.core.reporter import Silent
from clipmill.core.settings import AskSettings, CaptionSettings, ClusterSettings, GeneratorSettings
from clipmill.runs.text_stages import words_stage
from clipmill.scenes.render import encode, render
from clipmill.scenes.scene import scene_of_row
from clipmill.words import plan, steps
from clipmill.words.names import BUILTIN_WRITER_FOLDER
from clipmill.words.plan import MOST_ROWS
from clipmill.words.steps import BATCH_SIZE
from clipmill.words.styles import prompt_of

ROWS = 192
"""Few enough to be done in this process."""
UNIT = MOST_ROWS
"""Rows of a unit, as inputs of 2,048 rows and more have them; what comes before the end of the first is left out."""
SIDE = 96
BATCH = BATCH_SIZE["cpu"]
QUESTION, CHOICES = "is there a red circle?", ("yes", "no")


def pictures(folder: Path) -> Path:
    """Held-out scenes as Parquet."""
    encoded = [encode(render(*scene_of_row("held-out", 3, row), SIDE)) for row in range(ROWS)]
    pq.write_table(pa.table({"id": [str(row) for row in range(ROWS)], "image": encoded}), folder / "scenes.parquet")
    return folder / "scenes.parquet"


def of_stage(make: Callable[..., GeneratorSettings], source: Path) -> float:
    """Pictures a CPU second of a stage, between the commits of its units."""
    ends: list[float] = []
    plain = steps.commit_unit

    def commit(*given: Any) -> None:
        plain(*given)
        ends.append(time.process_time())

    patched = patch.object(steps, "commit_unit", commit), patch.object(plan, "LEAST_UNITS", ROWS // UNIT)
    with tempfile.TemporaryDirectory() as folder, patched[0], patched[1]:
        settings = make(input=str(source), output=f"{folder}/texts", batch_size=BATCH)
        words_stage(settings, ClusterSettings(device="cpu"), Silent())
    assert len(ends) == ROWS // UNIT
    return (ROWS - UNIT) / (ends[-1] - ends[0])


class Loop:
    """The library's own calls."""

    def __init__(self, model: Path) -> None:
        self.processor = transformers.AutoProcessor.from_pretrained(model, local_files_only=True)
        self.processor.tokenizer.padding_side = "left"
        made = transformers.AutoModelForImageTextToText.from_pretrained(
            model, local_files_only=True, dtype=torch.float32
        )
        self.network = made.eval()

    def __call__(self, source: Path, prompt: str, most: int) -> float:
        """Pictures a CPU second."""
        encoded = pq.read_table(source, columns=["image"]).column(0).to_pylist()
        torch.set_num_threads(1)
        start = 0.0
        for at in range(0, ROWS, BATCH):
            start = time.process_time() if at == UNIT else start
            self._batch(encoded[at : at + BATCH], prompt, most)
        return (ROWS - UNIT) / (time.process_time() - start)

    def _batch(self, encoded: Sequence[bytes], prompt: str, most: int) -> None:
        shown = [[Image.open(io.BytesIO(data)).convert("RGB")] for data in encoded]
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        inputs = self.processor(images=shown, text=[text] * len(shown), padding=True, return_tensors="pt")
        with torch.inference_mode():
            made = self.network.generate(**inputs, max_new_tokens=most, do_sample=False)
        self.processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def main() -> None:
    """Measures, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BUILTIN_WRITER_FOLDER)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=60, help="Most tokens of a text.")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    loop, asked = Loop(given.model), {"model": str(given.model), "max_tokens": given.most}
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as made:
        source = pictures(Path(made))
        for _ in range(given.rounds):
            found["caption"].append(of_stage(lambda **at: CaptionSettings(**at, **asked), source))
            found["loop"].append(loop(source, prompt_of("short", instructed=True), given.most))
            for name, choices in (("ask", None), ("ask --choices", CHOICES)):
                questions = {"question": QUESTION, "choices": choices, **asked}
                found[name].append(of_stage(lambda of=questions, **at: AskSettings(**at, **of), source))
    text = page(given, found)
    print(text)
    if given.output:
        given.output.write_text(text)


NAMES = ("caption", "loop", "ask", "ask --choices")


def page(given: argparse.Namespace, found: dict[str, list[float]]) -> str:
    """What was found, for the documentation."""
    machine = ", ".join(map(str, hardware().values()))
    speeds = {name: median(of) for name, of in found.items()}

    def against(one: str, other: str) -> str:
        return f"{speeds[one] / speeds[other]:.2f}"

    rows = [f"| {name} | {speeds[name]:.1f} | {min(of):.1f} to {max(of):.1f} |" for name, of in found.items()]
    return "\n".join(
        [
            "# Words, measured",
            "",
            f"`python -m benchmarks.words`: {ROWS - UNIT} pictures in units of {UNIT} and batches of {BATCH}, texts of at most "
            f"{given.most} tokens, one thread, the median of {given.rounds} rounds; {machine}.",
            "",
            "| | pictures a CPU second | of the rounds |",
            "|---|---|---|",
            *rows,
            "",
            f"`caption` does {against('caption', 'loop')} of what the loop does. `ask --choices` does "
            f"{against('ask --choices', 'caption')} times what `caption` does, which writes some twenty tokens, and "
            f"{against('ask --choices', 'ask')} times what `ask` does: both look at the picture once, and an answer of one "
            "word takes as many passes as choices do.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
