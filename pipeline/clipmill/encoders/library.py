"""Which library a model comes from: said by a prefix, or by what lies in a folder. Nothing large is imported for it.

--model transformers:ORG/NAME, sentence-transformers:ORG/NAME     from the Hugging Face hub
--model FOLDER                                                    by its open_clip_config.json, modules.json or config.json
--model NAME or NAME:ARGUMENT                                     an encoder that an installed package brings
--model ViT-B-32                                                  everything else is open_clip's
"""

import importlib.util
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings
from clipmill.encoders.names import BUILTIN_FOLDERS, CONFIG_FILE, LOCAL_DIR, known_models, refuse_unknown_model

OPEN_CLIP = "open_clip"
TRANSFORMERS = "transformers"
SENTENCE_TRANSFORMERS = "sentence-transformers"
ENTRY_POINT = "entry-point"
ENTRY_POINTS = "clipmill.encoders"
"""The group in which a package names its encoders."""

_PACKAGES = {TRANSFORMERS: "transformers", SENTENCE_TRANSFORMERS: "sentence_transformers"}
_BY_FILE = {CONFIG_FILE: OPEN_CLIP, "modules.json": SENTENCE_TRANSFORMERS, "config.json": TRANSFORMERS}
"""What a folder is by a file in it; the first that is there decides, since some hold several."""


@dataclass(frozen=True)
class Place:
    """Where a model is: its library, and what that library is to load. ``name`` is how the model is called, ``revision`` a
    commit of a repository on the hub, ``folder`` a folder of this machine, if it is one."""

    library: str
    name: str = ""
    folder: Path | None = None
    repository: str = ""
    revision: str | None = None


def find_place(settings: ModelSettings) -> Place:
    """Where the model of these settings is. Raises UserError for a folder that holds no model, and for a place that is
    neither a folder nor the name of a repository."""
    model, pretrained = settings.model, settings.pretrained
    prefix, _, rest = (model or "").partition(":")
    if prefix in _PACKAGES:
        return _prefixed(prefix, rest, pretrained)
    if model and (prefix in entry_points()):
        return Place(ENTRY_POINT, name=model)
    if model is not None:
        folder = None if pretrained or model in (*BUILTIN_FOLDERS, *known_models()) else _folder(model)
    else:
        folder = _folder(pretrained)
    if folder is None or str(model or pretrained).startswith(LOCAL_DIR):
        return Place(OPEN_CLIP)
    library = next((library for file, library in _BY_FILE.items() if (folder / file).is_file()), None)
    if model is None and library in (OPEN_CLIP, None):
        return Place(OPEN_CLIP)  # which has its own words for a folder without a configuration
    if library is None:
        raise UserError(f"--model {model} is a folder without a model: none of {', '.join(_BY_FILE)} lies in it")
    return Place(library, name=f"{library}:{folder.resolve().name}", folder=folder)


def _prefixed(library: str, rest: str, pretrained: str | None) -> Place:
    folder = _folder(pretrained) or _folder(rest)
    if folder is not None:
        return Place(library, name=f"{library}:{folder.resolve().name}", folder=folder)
    if rest.count("/") != 1 or rest.startswith(("/", ".")):
        raise UserError(
            f"--model {library}:{rest} is neither a folder nor a model on the Hugging Face hub, which is written ORG/NAME"
        )
    return Place(library, name=f"{library}:{rest}", repository=rest, revision=pretrained)


def _folder(name: str | None) -> Path | None:
    if not name:
        return None
    path = Path(name.removeprefix(LOCAL_DIR)).expanduser()
    return path if path.is_dir() else None


def entry_points() -> dict[str, metadata.EntryPoint]:
    """The encoders that installed packages bring, by name."""
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}


def refuse_unusable_model(settings: ModelSettings) -> None:
    """Raises UserError for a model that cannot be had, as far as that is known without importing its library: a name that
    nobody knows, a place that holds none, a package that is not installed."""
    place = find_place(settings)
    if place.library == OPEN_CLIP:
        refuse_unknown_model(None if place.folder else settings.model, settings.pretrained)
    elif place.library in _PACKAGES:
        require(place.library, f"--model {place.name}")
        if settings.precision == "int8":
            raise UserError("--precision int8 is for models of open_clip; leave it out, or say bf16")
    if settings.preprocessing and place.library != OPEN_CLIP:
        raise UserError("--preprocessing is for checkpoint files of open_clip; this model brings its own")


def require(library: str, what: str) -> None:
    """Raises UserError with the line to type where the package of a library is not installed."""
    if importlib.util.find_spec(_PACKAGES[library]) is None:
        raise UserError(
            f"{what} needs the package {library}, which is not installed: pip install 'clipmill[{library}]'"
        )


def download(place: Place, *, code: bool) -> Path:
    """The folder of a model; one on the hub is downloaded on first use. ``code``: with its Python files.

    Raises UserError when it is not to be had.
    """
    if place.folder is not None:
        return place.folder
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", *(["*.py"] if code else [])]
    try:
        found = snapshot_download(
            place.repository, revision=place.revision, allow_patterns=wanted, ignore_patterns=["onnx/*", "openvino/*"]
        )
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise UserError(
            f"--model {place.name} could not be downloaded from the Hugging Face hub ({reason}); with no network, give "
            "--pretrained a folder that holds it"
        ) from None
    return Path(found)


def pretrained_of(place: Place, folder: Path) -> str:
    """What an identity says of where weights are: their commit on the hub, or their folder."""
    return str(folder.resolve()) if place.folder is not None else folder.name
