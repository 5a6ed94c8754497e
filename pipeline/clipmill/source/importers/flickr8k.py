"""Flickr8k and Flickr30k as they are handed out: a text file with five captions per image, and a folder of images."""

import csv
import re
from collections.abc import Callable, Iterator

import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.settings import ImportSettings
from clipmill.source.importers.samples import (
    Collection,
    Sample,
    chosen_splits,
    paths_below,
    refuse_outside,
)
from clipmill.source.names import IMAGE_SUFFIXES
from clipmill.storage import Location

_SPLITS = {"trainImages.txt": "train", "devImages.txt": "validation", "testImages.txt": "test"}


def read_flickr8k(source: Location, settings: ImportSettings) -> Collection:
    """Every image with captions, in the order of the captions file, wherever below ``source`` the images lie.

    Understood are ``*.token.txt`` and ``*.token`` (``name.jpg#0<tab>caption``), ``captions.txt`` (CSV with a header)
    and ``results.csv`` (``name.jpg| 0| caption``). The column split comes from ``*trainImages.txt`` and its like.
    """
    files = {path.rsplit("/", 1)[-1]: source / path for path in paths_below(source)}
    images = {name: place for name, place in files.items() if name.lower().endswith(IMAGE_SUFFIXES)}
    place, parse = _captions_file(files, source)
    refuse_outside(place, source, settings)
    captions: dict[str, list[str]] = {}
    for name, caption in parse(_lines(place), place):
        captions.setdefault(name, []).append(caption)
    split_of = {
        name.strip(): split
        for ending, split in _SPLITS.items()
        for file in sorted(files)
        if file.endswith(ending)
        for name in _lines(refuse_outside(files[file], source, settings))
        if name.strip()
    }
    splits = set(chosen_splits(set(split_of.values()), settings.split, source))
    wanted = [name for name in captions if settings.split is None or split_of.get(name) in splits]
    folder = next(iter(images.values()), source / "Images" / "x").sibling("")
    return Collection(
        columns=(pa.field("split", pa.string()),),
        samples=(
            Sample(
                id=name.rsplit(".", 1)[0],
                path=name,
                image=images.get(name, folder / name),
                captions=tuple(captions[name]),
                values=(split_of.get(name),),
            )
            for name in wanted
        ),
        total=len(wanted),
    )


_Parser = Callable[[list[str], Location], Iterator[tuple[str, str]]]


def _captions_file(files: dict[str, Location], source: Location) -> tuple[Location, _Parser]:
    by_ending: dict[str, _Parser] = {
        "Flickr8k.token.txt": _token_lines,
        ".token.txt": _token_lines,
        ".token": _token_lines,
        "captions.txt": _csv_lines,
        "results.csv": _bar_lines,
    }
    for ending, parse in by_ending.items():
        for name in sorted(files):
            if name.endswith(ending) and "lemma" not in name:
                return files[name], parse
    raise UserError(
        f"{source} has none of Flickr8k.token.txt, captions.txt and results.csv, where the captions would be"
    )


def _lines(place: Location) -> list[str]:
    return storage.read_bytes(place).decode("utf-8-sig", errors="replace").splitlines()


def _token_lines(lines: list[str], place: Location) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, tab, caption = line.partition("\t")
        if not tab:
            raise UserError(f"{place}, line {number}: there is no tab between image and caption: {line[:60]!r}")
        yield name.split("#")[0].strip(), caption.strip()


def _csv_lines(lines: list[str], place: Location) -> Iterator[tuple[str, str]]:
    for number, fields in enumerate(csv.reader(lines[1:]), start=2):
        if not fields:
            continue
        if len(fields) < 2:
            raise UserError(f"{place}, line {number}: there is no comma between image and caption: {fields[0][:60]!r}")
        yield fields[0].strip(), ",".join(fields[1:]).strip()


def _bar_lines(lines: list[str], place: Location) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*([^|]+?)\s*\|\s*\d+\s*\|?\s*(.*)", line)
        if match is None:
            raise UserError(f"{place}, line {number}: this is not 'image| number| caption': {line[:60]!r}")
        yield match.group(1), match.group(2).strip()
