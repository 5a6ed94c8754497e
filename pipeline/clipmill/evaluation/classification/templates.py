"""Prompt templates for zero-shot classification, by name or from a file; `{}` stands for the class."""

from collections.abc import Callable

from clipmill import storage
from clipmill.core.errors import UserError

PLACE = "{}"

_CIFAR10 = (
    "a photo of {} {{}}.",
    "a blurry photo of {} {{}}.",
    "a black and white photo of {} {{}}.",
    "a low contrast photo of {} {{}}.",
    "a high contrast photo of {} {{}}.",
    "a bad photo of {} {{}}.",
    "a good photo of {} {{}}.",
    "a photo of {} small {{}}.",
    "a photo of {} big {{}}.",
)


def _imagenet() -> tuple[str, ...]:
    """The 80 of the CLIP paper, tuned for ImageNet."""
    import open_clip

    return tuple(template(PLACE) for template in open_clip.OPENAI_IMAGENET_TEMPLATES)


def _simple() -> tuple[str, ...]:
    """The 7 of those 80 that were found to do nearly as well together."""
    import open_clip

    return tuple(template(PLACE) for template in open_clip.SIMPLE_IMAGENET_TEMPLATES)


def _cifar10() -> tuple[str, ...]:
    """The 18 of the CLIP paper for CIFAR-10: nine kinds of photo, each of "a" and of "the" class."""
    return tuple(template.format(article) for article in ("a", "the") for template in _CIFAR10)


def _plain() -> tuple[str, ...]:
    """The class name alone."""
    return (PLACE,)


NAMED: dict[str, Callable[[], tuple[str, ...]]] = {
    "imagenet": _imagenet,
    "simple": _simple,
    "cifar10": _cifar10,
    "plain": _plain,
}


def load_templates(name: str) -> tuple[str, ...]:
    """The templates of a name, or of a UTF-8 file with one per line (blank lines and lines that begin with # are skipped).

    Raises UserError when there is neither such a name nor such a file, or a line has no `{}`.
    """
    if name in NAMED:
        return NAMED[name]()
    try:
        lines = storage.read_bytes(storage.resolve(name)).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "cannot be read"
        raise UserError(
            f"--templates {name}: it is none of {', '.join(NAMED)}, and a file of that name {reason}"
        ) from None
    templates = []
    for number, line in enumerate(lines, start=1):
        template = line.strip()
        if not template or template.startswith("#"):
            continue
        if PLACE not in template:
            raise UserError(f"--templates {name}: line {number} has no {PLACE} where the class name should stand")
        templates.append(template)
    if not templates:
        raise UserError(
            f"--templates {name}: the file has no template; write one per line, such as: a photo of a {PLACE}."
        )
    return tuple(templates)


def prompts(templates: tuple[str, ...], class_name: str) -> list[str]:
    """Every template filled with one class name. Underscores in the name are read as spaces."""
    return [template.replace(PLACE, class_name.replace("_", " ")) for template in templates]
