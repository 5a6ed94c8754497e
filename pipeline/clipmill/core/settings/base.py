"""What all settings share: they are frozen, they know what decides a dataset's content, and mistakes are told at once."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipmill.core.errors import UserError
from clipmill.core.values import Option


class Settings(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error.

    ``GROUP`` is the heading under which help lists the options that a class adds. ``LATER`` are settings that came after
    datasets had been made without them: where one is None it is not recorded, as it was not then. Those of ``UNRECORDED``
    never are: they say on what something is computed, and results are the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    GROUP: ClassVar[str] = "Options"
    LATER: ClassVar[tuple[str, ...]] = (
        "allow_outside",
        "trec",
        "widths",
        "learn_prompts",
        "dimension",
        "trust_remote_code",
        "audio_column",
        "video_column",
        "sounds",
        "window",
        "frames",
        "tune_on",
        "tune_k",
        "rerank_vectors",
        "resident",
        "queries",
        "query_sample",
        "mteb",
    )
    UNRECORDED: ClassVar[tuple[str, ...]] = ("products", "decode")

    def recorded(self) -> dict[str, Any]:
        """All settings as JSON types, for what is written down or a key that is made of them."""
        values = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if self._is_recorded(name, value)}

    def _is_recorded(self, name: str, value: Any) -> bool:
        return name not in Settings.UNRECORDED and (value is not None or name not in self.LATER)


class OutputSettings(Settings):
    """Settings of a stage, which writes a dataset at ``output``.

    ``CONTENT`` names those that decide what is in the dataset; the others only decide how it is made, and where.
    """

    CONTENT: ClassVar[tuple[str, ...]] = ()
    GROUP: ClassVar[str] = "Output"

    output: str = Field(description="Folder that the finished dataset is published to; local or s3://.")
    overwrite: bool = Field(
        default=False,
        description="Replace a finished output, once the new one is complete; drop unfinished work of other settings.",
    )

    def content(self) -> dict[str, Any]:
        """The settings that decide the content, as JSON types: what a manifest records as its configuration."""
        values = self.recorded()
        return {name: values[name] for name in self.CONTENT if name in values}


SettingsModel = TypeVar("SettingsModel", bound=Settings)


def build(model: type[SettingsModel], values: Mapping[str, Any]) -> SettingsModel:
    """Settings from values, where a mistake is a UserError that names every option at fault."""
    made, mistakes = check(model, values)
    if made is None:
        raise UserError("; ".join(mistakes))
    return made


def check(model: type[SettingsModel], values: Mapping[str, Any]) -> tuple[SettingsModel | None, list[str]]:
    """Settings from values, or None and a sentence for every option at fault."""
    try:
        return model.model_validate(dict(values)), []
    except ValidationError as error:
        return None, [_sentence(model, problem) for problem in error.errors()]


def flag_of(model: type[Settings], field: str) -> str:
    """What a setting is called on the command line: ``--max-rejects``, ``-k``, or the name of an argument."""
    option = option_of(model, field)
    if option.argument and option.metavar:
        return option.metavar.split()[0]
    return option.name or "--" + field.replace("_", "-")


def option_of(model: type[Settings], field: str) -> Option:
    """How a setting looks on the command line, as its annotation says."""
    return next((data for data in model.model_fields[field].metadata if isinstance(data, Option)), Option())


def _sentence(model: type[Settings], problem: Mapping[str, Any]) -> str:
    field, *inside = (str(part) for part in problem["loc"])
    option = flag_of(model, field) if field in model.model_fields else f"--{field.replace('_', '-')}"
    if (
        field not in model.model_fields or not option_of(model, field).separated
    ):  # else the place in one text with commas
        option = ".".join([option, *inside])
    return f"{option} is missing" if problem["type"] == "missing" else f"{option}: {explain(problem)}"


def explain(problem: Mapping[str, Any]) -> str:
    """What is wrong with a value, in plain words. ``problem`` is one of pydantic's ``ValidationError.errors()``."""
    given, limits = problem["input"], problem.get("ctx", {})
    match problem["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not known"
        case "int_parsing" | "int_type" | "int_from_float":
            return f"{given!r} is not a whole number"
        case "float_parsing" | "float_type":
            return f"{given!r} is not a number"
        case "literal_error":
            return f"{given!r} is not one of {limits['expected']}"
        case "greater_than_equal":
            return f"must be {limits['ge']:g} or more; {given!r} was given"
        case "greater_than":
            return f"must be more than {limits['gt']:g}; {given!r} was given"
        case "less_than_equal":
            return f"must be {limits['le']:g} or less; {given!r} was given"
        case _:
            return str(problem["msg"]).removeprefix("Value error, ")
