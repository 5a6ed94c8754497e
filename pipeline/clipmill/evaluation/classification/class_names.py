"""Names for the values of a label column, as prompts need them: from a file, or ImageNet's."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from clipmill import storage
from clipmill.core.errors import UserError

IMAGENET = "imagenet"
_WHOLE = re.compile(r"0|[1-9][0-9]*")
_SHOWN = 5


@dataclass(frozen=True)
class ClassNames:
    """Names in the order of ``source``. ``labels`` are the column's values they belong to; None where only names are
    listed: number i of them then names the label i, and where labels are words the list says which there are."""

    source: str
    names: tuple[str, ...]
    labels: tuple[str, ...] | None = None

    def of(self, column: str, values: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """All labels and their names, also of classes that have no image. ``values`` are those in the column.

        Raises UserError for values that have no name.
        """
        labels, names = self.labels, self.names
        if labels is None and values and all(_WHOLE.fullmatch(value) for value in values):
            labels = tuple(str(number) for number in range(len(names)))
        elif labels is None:
            labels = names = tuple(dict.fromkeys(names))
        known = set(labels)
        unknown = [value for value in values if value not in known]
        if unknown:
            shown = ", ".join(repr(value) for value in unknown[:_SHOWN]) + (", …" if len(unknown) > _SHOWN else "")
            raise UserError(
                f"--class-names {self.source}: it has no name for {len(unknown):,} of the {len(values):,} labels in the "
                f"column {column}: {shown}"
            )
        return labels, names


def load_class_names(name: str) -> ClassNames:
    """The names called ``imagenet`` (open_clip's, for labels 0 to 999), or those in a UTF-8 file.

    A ``.json`` file is an object from label to name, or a list of names; a ``.csv`` file has the columns `label` and
    `name`; any other has one name per line, blank ones skipped. Raises UserError for a file that cannot be used.
    """
    if name == IMAGENET:
        import open_clip

        return ClassNames(name, tuple(open_clip.IMAGENET_CLASSNAMES))
    location = storage.resolve(name)
    try:
        text = storage.read_bytes(location).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "cannot be read"
        raise _refusal(name, f"it is not {IMAGENET}, and a file of that name {reason}") from None
    suffix = location.name.lower().rpartition(".")[2]
    names = {"json": _from_json, "csv": _from_csv}.get(suffix, _from_lines)(name, text)
    if not names.names:
        raise _refusal(name, "it has no names; write one per line")
    for number, (label, words) in enumerate(zip(names.labels or names.names, names.names, strict=True), start=1):
        if not words.strip():
            raise _refusal(name, f"entry {number} ({label!r}) has an empty name")
    if names.labels is not None and len(set(names.labels)) < len(names.labels):
        repeated = next(label for label in names.labels if names.labels.count(label) > 1)
        raise _refusal(name, f"it names the label {repeated!r} more than once")
    return names


def _refusal(name: str, why: str) -> UserError:
    return UserError(f"--class-names {name}: {why}")


def _from_lines(name: str, text: str) -> ClassNames:
    return ClassNames(name, tuple(line.strip() for line in text.splitlines() if line.strip()))


def _from_csv(name: str, text: str) -> ClassNames:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        pairs = [(row["label"], row["name"]) for row in rows]
    except KeyError:
        raise _refusal(name, "the columns of its first line must be `label` and `name`") from None
    except csv.Error as error:
        raise _refusal(name, f"line {rows.line_num} is not CSV ({error})") from None
    return ClassNames(name, tuple(words or "" for _, words in pairs), tuple(label or "" for label, _ in pairs))


def _from_json(name: str, text: str) -> ClassNames:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise _refusal(name, f"it is not JSON ({error})") from None
    names = list(document.values()) if isinstance(document, dict) else document
    if not isinstance(names, list) or not all(isinstance(words, str) for words in names):
        raise _refusal(name, "it must be a JSON object from label to name, or a list of names")
    return ClassNames(name, tuple(names), tuple(document) if isinstance(document, dict) else None)
