"""The YAML file of `clipmill run`: one section a stage, in the words of that stage's options.

Every mistake is found before anything starts, and all of them are told at once, each with its line. `clipmill.runs.schema`
describes the file for editors.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from clipmill.core.errors import UserError
from clipmill.core.settings import (
    CaptionSettings,
    ClusterSettings,
    EmbedSettings,
    EvaluateSettings,
    GateSettings,
    IndexSettings,
    RecaptionSettings,
    Settings,
    SettingsModel,
    TrainSettings,
    explain,
)
from clipmill.runs.places import unreachable

MODELS: dict[str, type[Settings]] = {
    "cluster": ClusterSettings,
    "train": TrainSettings,
    "caption": CaptionSettings,
    "recaption": RecaptionSettings,
    "embed": EmbedSettings,
    "index": IndexSettings,
    "evaluate": EvaluateSettings,
    "gates": GateSettings,
}
_SECTIONS = ("output", "hook", *MODELS)
OPTIONAL = ("index", "evaluate")
PLACES = {
    "train": ("output", "report"),
    "caption": ("input", "output"),
    "recaption": ("input", "texts", "output"),
    "embed": ("output",),
    "index": ("embeddings", "output"),
    "evaluate": ("embeddings", "index", "output"),
}
"""What links one stage to the next: it follows from ``output`` and is not set by the user."""
_NEEDS = {
    "min_t2i_recall_at_10": "evaluate",
    "max_t2i_drop": "evaluate",
    "min_index_recall": "index",
    "max_p99_milliseconds": "evaluate",
}


@dataclass(frozen=True)
class RunFile:
    """Every stage's settings, checked together before anything starts. None: that stage is switched off.

    Where a stage writes is not settled yet: each version has places of its own.
    """

    output: str
    embed: EmbedSettings
    index: IndexSettings | None
    evaluate: EvaluateSettings | None
    cluster: ClusterSettings
    gates: GateSettings
    hook: str | None = None
    """A command line that is run when the run has ended (`clipmill.runs.summary`)."""
    train: TrainSettings | None = None
    """A model that is trained first, and that `embed` then takes."""
    caption: CaptionSettings | None = None
    """Texts that are written about the input of `embed`."""
    recaption: RecaptionSettings | None = None
    """Captions and those texts, of which `embed` takes what is true."""


def read_run_file(path: Path, *, look_at_places: bool = False) -> RunFile:
    """Reads and checks a run file; with ``look_at_places`` also whether what it names is there.

    Raises UserError that names the file and the line of everything that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    return read_run_text(text, str(path), look_at_places=look_at_places)


def read_run_text(text: str, name: str, *, look_at_places: bool = False) -> RunFile:
    """The same of the text of a run file, whatever it is called. Raises as `read_run_file` does."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{name}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, Mapping) or not isinstance(root, yaml.MappingNode):
        raise UserError(f"{name}: must hold the sections {', '.join(_SECTIONS)}")
    reader = _Reader(document, dict(_lines(root)))
    reader.twice(root)
    run = reader.read()
    if run is not None and look_at_places:
        for section, key, what in unreachable(run.output, run.embed, run.evaluate):
            reader.note((section, key), f"{section}.{key}: {what}" if key else f"{section}: {what}")
    if reader.problems:
        raise UserError("\n".join(f"{name}:{line}: {what}" for line, what in sorted(reader.problems)))
    assert run is not None
    return run


@dataclass
class _Reader:
    document: Mapping[str, Any]
    lines: Mapping[tuple[str, ...], int]
    problems: list[tuple[int, str]] = field(default_factory=list)

    def note(self, where: tuple[str, ...], what: str) -> None:
        """A problem at the line of a key, else of its section, else of the file."""
        while where and where not in self.lines:
            where = where[:-1]
        self.problems.append((self.lines.get(where, 1), what))

    def twice(self, root: yaml.MappingNode) -> None:
        """Keys that are there twice, of which YAML takes the last without a word."""
        for mapping in (root, *(value for _, value in root.value if isinstance(value, yaml.MappingNode))):
            names = [key.value for key, _ in mapping.value]
            for at, (key, _) in enumerate(mapping.value):
                if key.value in names[:at]:
                    self.problems.append((key.start_mark.line + 1, f"{key.value} is there twice; leave one out"))

    def read(self) -> RunFile | None:
        for name in self.document:
            if name not in _SECTIONS:
                self.note((str(name),), f"unknown section {name!r}{_meant(str(name), _SECTIONS)}")
        output = self.document.get("output")
        if not isinstance(output, str) or not output.strip():
            self.note(("output",), "`output` must say where versions are published")
            output = "unknown"
        output = output.rstrip("/") or "/"
        hook = self.document.get("hook")
        if hook is not None and (not isinstance(hook, str) or not hook.strip()):
            self.note(("hook",), "`hook` must be a command line, to be run when the run has ended")
        cluster = self._section("cluster", ClusterSettings, output)
        train = self._section("train", TrainSettings, output) if "train" in self.document else None
        caption = self._section("caption", CaptionSettings, output) if "caption" in self.document else None
        recaption = self._section("recaption", RecaptionSettings, output) if "recaption" in self.document else None
        embed = self._section("embed", EmbedSettings, output)
        index = self._section("index", IndexSettings, output)
        evaluate = self._section("evaluate", EvaluateSettings, output)
        gates = self._section("gates", GateSettings, output)
        self._refuse_impossible(gates, index, evaluate)
        self._refuse_untested(train, embed, output)
        self._refuse_wordless(caption, recaption, embed)
        if embed is None or self.problems:
            return None
        if index is None and evaluate is not None:
            evaluate = evaluate.model_copy(update={"index": None})
        where = cluster or ClusterSettings()
        return RunFile(output, embed, index, evaluate, where, gates or GateSettings(), hook, train, caption, recaption)

    def _section(self, name: str, model: type[SettingsModel], output: str) -> SettingsModel | None:
        section = self.document.get(name, {})
        if section is False and name in OPTIONAL:
            return None
        if section is None:
            section = {}
        if not isinstance(section, Mapping):
            leave_out = ", or `false` to leave this stage out" if name in OPTIONAL else ""
            self.note((name,), f"`{name}` must be a section of options{leave_out}")
            return None
        places = PLACES.get(name, ())
        options = [option for option in model.model_fields if option not in (*places, "overwrite")]
        values: dict[str, Any] = dict.fromkeys(places, output)
        for key, value in section.items():
            if key in options:
                values[key] = value
            elif key in (*places, "overwrite"):
                self.note((name, key), f"{name}.{key} follows from `output` and is not set here")
            else:
                self.note((name, str(key)), f"{name}.{key} is not known{_meant(str(key), options)}")
        try:
            return model.model_validate(values)
        except ValidationError as error:
            for problem in error.errors():
                where = (name, *(str(part) for part in problem["loc"]))
                if problem["type"] == "missing":
                    self.note(where[:1], f"{'.'.join(where)} is missing")
                else:
                    self.note(where[:2], f"{'.'.join(where)}: {explain(problem)}")
            return None

    def _refuse_impossible(
        self, gates: GateSettings | None, index: IndexSettings | None, evaluate: EvaluateSettings | None
    ) -> None:
        """A bar for what is not made. Sections that are wrong were told before."""
        off = {name for name in OPTIONAL if self.document.get(name) is False}
        for key, stage in _NEEDS.items():
            if gates is not None and getattr(gates, key) is not None and stage in off:
                self.note(("gates", key), f"gates.{key} needs `{stage}`, which is switched off")
        if gates is not None and gates.max_p99_milliseconds is not None and "index" in off:
            self.note(
                ("gates", "max_p99_milliseconds"), "gates.max_p99_milliseconds needs `index`, which is switched off"
            )
        if index is not None and index.foreign is not None:
            self.note(("index", "foreign"), "index.foreign is for one index, not for versions that grow; leave it out")

    def _refuse_untested(self, train: TrainSettings | None, embed: EmbedSettings | None, output: str) -> None:
        """A model that could not be judged, or not be loaded by those who embed."""
        if train is None or embed is None:
            return
        if train.pretrained and not train.validation:
            self.note(
                ("train",), "train.validation is missing: a model that is not better than before is not published"
            )
        for key in ("model", "pretrained", "preprocessing"):
            if getattr(embed, key) is not None:
                self.note(
                    ("embed", key), f"embed.{key} follows from `train`, whose model is embedded with; set it there"
                )
        if output.startswith("s3://"):
            self.note(("output",), "`train` needs a local `output`: encoders load the model from there")

    def _refuse_wordless(
        self, caption: CaptionSettings | None, recaption: RecaptionSettings | None, embed: EmbedSettings | None
    ) -> None:
        """Captions without texts to make them better, and what the stages tell each other."""
        if "recaption" in self.document and "caption" not in self.document:
            self.note(("recaption",), "`recaption` needs `caption`, which writes the texts that it filters")
        for name, section in (("caption", caption), ("recaption", recaption)):
            if section is not None and section.limit is not None:
                self.note((name, "limit"), f"{name}.limit: every source file is written about whole; leave it out")
        if recaption is None or embed is None:
            return
        for key in ("image_column", "caption_column", "id_column"):
            if getattr(embed, key) is not None:
                self.note(("embed", key), f"embed.{key} follows from `recaption`; set recaption.{key}")


def _lines(root: yaml.MappingNode) -> Iterator[tuple[tuple[str, ...], int]]:
    """The lines of sections and of their keys, from 1."""
    for section, value in root.value:
        yield (str(section.value),), section.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            for key, _ in value.value:
                yield (str(section.value), str(key.value)), key.start_mark.line + 1


def _meant(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else f" (known: {', '.join(known)})"
