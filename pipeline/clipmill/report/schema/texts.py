"""What a report says of texts about pictures."""

from typing import Literal

from clipmill.core.manifests import Record
from clipmill.evaluation.figures import Figure

ExampleKind = Literal["best", "worst", "disagreeing"]


class TextExample(Record):
    """A text that is shown. ``values`` are what was measured of it; the picture is that of the report at ``row``."""

    kind: ExampleKind
    row: int
    text: str
    references: list[str]
    answers: list[str]
    values: dict[str, float]


class TextsPart(Record):
    """Texts by ``generator`` about ``pictures`` rows; ``with_references`` and ``with_answers`` count texts whose row has such.
    ``ranked_by`` is what best and worst are by, ``against`` what disagrees with it, empty where there is nothing."""

    generator: str
    prompt: str | None
    pictures: int
    texts: int
    with_references: int
    with_answers: int
    overlap: list[Figure]
    answers: list[Figure]
    examples: list[TextExample]
    ranked_by: str = ""
    against: str = ""

    @property
    def figures(self) -> list[Figure]:
        """All of them."""
        return [*self.overlap, *self.answers]
