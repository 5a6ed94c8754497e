"""The manifest of texts that a model wrote about pictures."""

from typing import Any, Literal

from pydantic import Field

from clipmill.core.manifests import SCHEMA_VERSION, Record, Run, Sha256


class GeneratorIdentity(Record):
    """What decides the texts that a model writes, but for prompts and decoding. ``processor_sha256`` is over the files that
    make pictures and words into its inputs; both are null for a model behind an address of the network."""

    name: str
    engine: str
    pretrained: str = ""
    weights_sha256: Sha256 | None
    processor_sha256: Sha256 | None

    def differences(self, other: "GeneratorIdentity") -> list[str]:
        """The parts that disagree, in words; empty where both write the same texts."""
        must_agree = ("engine", "weights_sha256", "processor_sha256")
        names = must_agree if self.weights_sha256 else (*must_agree, "name")
        return [
            f"{key}: {getattr(self, key)} and {getattr(other, key)}"
            for key in names
            if getattr(self, key) != getattr(other, key)
        ]


class TextCounts(Record):
    """What became of the input. Of ``rows``, those of files without an image column lack nothing; each other one has its texts,
    or a reject; of several candidates each may be either. ``answered`` rows have ``texts``, of ``tokens`` in all, of which
    ``cut`` texts ended at the most tokens; ``prompt_tokens`` are those of questions, where they are paid for."""

    rows: int = 0
    answered: int = 0
    texts: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    cut: int = 0
    rejected_images: int = 0
    rejected_texts: int = 0
    without_image_column: int = 0
    rejected_by_reason: dict[str, int] = Field(default_factory=dict)


class TextThroughput(Record):
    """Work a second, over the last run. Seconds by stage are sums over all workers."""

    wall_seconds: float
    texts_per_second: float
    tokens_per_second: float
    stage_seconds: dict[str, float]


class TextsManifest(Record):
    """``manifest.json`` of texts that a model wrote about pictures."""

    kind: Literal["texts"] = "texts"
    schema_version: int = SCHEMA_VERSION
    generator: GeneratorIdentity
    counts: TextCounts
    configuration: dict[str, Any]
    generated_with: dict[str, int] = Field(default_factory=dict)
    runs: list[Run]
    throughput: TextThroughput
    software: dict[str, str]
    hardware: dict[str, Any]
    inputs_sha256: Sha256
    shards_sha256: Sha256


class ScorerIdentity(GeneratorIdentity):
    """What decides how well a text fits a picture: ``engine`` is clip or itm; ``processor_sha256`` is of what makes pictures
    and texts into its inputs."""


class ChosenThreshold(Record):
    """The least score of a text that is kept, and how it came about: by the rule of `clipmill.words.capfilt.threshold`, from
    ``texts`` of ``pictures`` that were drawn. The shares are estimates; all but ``value`` are null where it was given."""

    value: float
    pictures: int | None = None
    texts: int | None = None
    wrong_before: float | None = None
    wrong_kept: float | None = None
    right_kept: float | None = None


class CaptionedCounts(Record):
    """What became of the input. ``rows`` are all there, of which ``captioned`` keep a text. Of ``originals`` and ``generated``
    texts some are kept, and each other one is dropped; ``cut`` texts were longer than the model reads; pictures of
    ``unreadable`` rows could not be read."""

    rows: int = 0
    captioned: int = 0
    originals: int = 0
    generated: int = 0
    kept_originals: int = 0
    kept_generated: int = 0
    cut: int = 0
    unreadable: int = 0
    dropped_by_reason: dict[str, int] = Field(default_factory=dict)


class CaptionedManifest(Record):
    """``manifest.json`` of source rows whose captions were filtered: what `clipmill recaption` writes. ``image_column`` is what
    the column of pictures is called."""

    kind: Literal["captioned"] = "captioned"
    schema_version: int = SCHEMA_VERSION
    scorer: ScorerIdentity
    threshold: ChosenThreshold
    counts: CaptionedCounts
    image_column: str
    configuration: dict[str, Any]
    texts: str
    texts_manifest_sha256: Sha256
    scored_with: dict[str, int] = Field(default_factory=dict)
    runs: list[Run]
    stage_seconds: dict[str, float]
    software: dict[str, str]
    hardware: dict[str, Any]
    inputs_sha256: Sha256
    shards_sha256: Sha256
