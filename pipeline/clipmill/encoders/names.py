"""Which models open_clip knows by name, from the files of its package.

Torch is not imported for it, so a misspelt name is told at once.
"""

import difflib
import importlib.util
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from clipmill.core.errors import UserError

BUILTIN = "builtin"
BUILTIN_FOLDER = Path(__file__).parent / "builtin"
EARLIER_BUILTINS = {"d0525106f68975ec44027c517b40176095d7ed8c01b8748e3d051454ce211e10": "builtin-1"}
"""Built-in models of earlier versions by the sha256 of their weights: what they made is searched and grown with them."""
BUILTIN_SOUND = "builtin-sound"
"""The model that comes with clipmill and hears too."""
BUILTIN_FOLDERS = {
    name: BUILTIN_FOLDER.with_name(name.replace("-", "_"))
    for name in (BUILTIN, BUILTIN_SOUND, *EARLIER_BUILTINS.values())
}
CONFIG_FILE = "open_clip_config.json"
LOCAL_DIR = "local-dir:"
_MOST_NAMED = 5


def builtin_of(name: str, weights_sha256: str) -> str:
    """By which name a built-in model with these weights, recorded under ``name``, is found today."""
    return EARLIER_BUILTINS.get(weights_sha256, name)


@lru_cache(maxsize=1)
def known_models() -> tuple[str, ...]:
    """The names of open_clip's architectures, sorted; empty where its package has no such files."""
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        return ()
    return tuple(sorted(file.stem for file in (Path(found.origin).parent / "model_configs").glob("*.json")))


def refuse_unknown_model(model: str | None, pretrained: str | None = None) -> None:
    """Raises UserError, with the names that are like it, for a ``--model`` that open_clip does not know.

    Places (``local-dir:``, ``hf-hub:``) are not looked into here. Where ``--pretrained`` is a folder that brings its own
    configuration, the model may be called anything; the model itself may be such a folder, where an architecture is meant.
    """
    if model is None or model in BUILTIN_FOLDERS or ":" in model or not known_models() or model in known_models():
        return
    if has_configuration(model) or (pretrained and has_configuration(pretrained)):
        return
    close = nearest(model, [*BUILTIN_FOLDERS, *known_models()])
    like = f"; close to it: {', '.join(close)}" if close else ""
    try_this = f"--model {close[0]}" if close else "clipmill models"
    raise UserError(f"--model {model} is not a model that open_clip knows{like}; type: {try_this}")


def has_configuration(pretrained: str) -> bool:
    """Whether ``--pretrained`` is a folder, or a file in one, that holds an open_clip configuration."""
    path = Path(pretrained.removeprefix(LOCAL_DIR)).expanduser()
    return path.exists() and ((path if path.is_dir() else path.parent) / CONFIG_FILE).is_file()


def nearest(name: str, known: Iterable[str], most: int = _MOST_NAMED) -> list[str]:
    """Names that are like ``name`` whatever their case and signs, the nearest first."""
    plain: dict[str, str] = {}
    for one in known:
        plain.setdefault(_plain(one), one)
    return [plain[one] for one in difflib.get_close_matches(_plain(name), plain, n=most, cutoff=0.5)]


def nearest_first(name: str, known: Sequence[str]) -> list[str]:
    """All known names: those that are like ``name`` first, then the others in order."""
    close = nearest(name, known)
    return close + sorted(one for one in known if one not in close)


def _plain(name: str) -> str:
    return name.lower().replace("/", "-").replace("_", "-")
