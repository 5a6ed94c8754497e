"""What people give `clipmill run` that is no input: each is told with what to type in its place."""

import difflib
import os
import shlex
from pathlib import Path

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.datasets.manifests import kind_at
from clipmill.source.inputs import refuse_unreachable
from clipmill.source.names import medium_of
from clipmill.versions.place import Place

_ARCHIVES = {".zip": "unzip {file} -d {folder}", ".rar": "unrar x {file} {folder}/", ".7z": "7z x {file} -o{folder}"}
_INSTEAD = {
    "index": "clipmill explore {place}",
    "embeddings": "clipmill index --embeddings {place} --output {place}-index",
}
"""What to type for a dataset of ours that is no input."""


def medium_of_input(source: str) -> str | None:
    """Looks at what is there, and opens nothing: the medium (image, audio, video) of a folder of files, None for any other
    input. Raises UserError, which ends in what to type, for what is no input."""
    _refuse_other_things(source)
    try:
        return refuse_unreachable(source)
    except UserError as error:
        if "`clipmill" in str(error):
            raise
        meant = _meant(source)
        raise UserError(f"{error}; {_then(meant) if meant else f'put that right, and type: {_run(source)}'}") from None


def _refuse_other_things(source: str) -> None:
    if source.startswith(("http://", "https://")):
        raise UserError(
            f"{source} is a web address, and clipmill does not download; download it into a folder, and type: clipmill run "
            "FOLDER/"
        )
    path = Path(source).expanduser()
    if path.is_file():
        _refuse_single(path, source)
        return
    place = storage.resolve(source)
    if storage.is_file(Place(place).pointer):
        raise UserError(
            f"{source} is what `clipmill run` has made; to search it, type: clipmill explore {_quoted(source)}"
        )
    kind = kind_at(place)
    if kind in _INSTEAD:
        instead = _INSTEAD[kind].format(place=_quoted(source.rstrip("/")))
        raise UserError(f"{source} is a finished dataset of kind {kind!r}, and no input; type: {instead}")


def _refuse_single(path: Path, source: str) -> None:
    unpack = _ARCHIVES.get(path.suffix.lower())
    if unpack is not None:
        folder = str(Path(source).with_suffix(""))
        first = unpack.format(file=_quoted(source), folder=_quoted(folder))
        raise UserError(f"{source} is an archive that is not read in place; type: {first} && {_run(folder + '/')}")
    if (medium := medium_of(source)) is not None:
        folder = os.path.dirname(source) or "."
        what = {"image": "picture", "audio": "sound", "video": "video"}[medium]
        raise UserError(f"{source} is one {what}, and a folder is needed; type: {_run(folder + '/')}")


def _meant(source: str) -> str | None:
    """The name nearby that is most like one that is not there."""
    path = Path(source).expanduser()
    if "://" in source or path.exists() or not path.parent.is_dir():
        return None
    there = [one.name for one in path.parent.iterdir() if not one.name.startswith(".")]
    close = difflib.get_close_matches(path.name, there, 1)
    return str(Path(source).parent / close[0]) if close else None


def _then(meant: str) -> str:
    return f"did you mean {meant}? Type: {_run(meant)}"


def _run(source: str) -> str:
    return f"clipmill run {_quoted(source)}"


def _quoted(text: str) -> str:
    return shlex.quote(text)
