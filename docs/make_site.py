"""The source of the documentation's site: the pages of docs/ with links that lead somewhere there, the README as its first
page, a reference of every command and option from what the commands say of themselves, and llms.txt.

    python docs/make_site.py out/docs-source
"""

import inspect
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from clipmill_jobs.__main__ import JOBS, main

ROOT = Path(__file__).parents[1]
SOURCES = "https://github.com/clipmill/clipmill/blob/main/"
RENAMED = {"index.md": "vector_index.md"}
"""A site begins with its index.md, which is the README here."""
PICTURES = (".png", ".jpg")
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#:\s]+)((?:#[^)]*)?\))")


def make_site(folder: Path) -> list[Path]:
    """Writes the pages, and returns them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for picture in (ROOT / "docs").iterdir():
        if picture.suffix in PICTURES:
            shutil.copy(picture, folder)
    pages = {RENAMED.get(page.name, page.name): moved(page) for page in sorted((ROOT / "docs").glob("*.md"))}
    pages = {"index.md": moved(ROOT / "README.md"), **pages, "reference.md": reference()}
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "llms.txt").write_text(llms(pages), encoding="utf-8")
    return [folder / name for name in pages]


def moved(page: Path) -> str:
    """The text of a page with its links as they lead from the site."""

    def link(found: re.Match[str]) -> str:
        target = (page.parent / found[2]).resolve()
        if target.parent == ROOT / "docs" and target.suffix in (".md", *PICTURES):
            place = RENAMED.get(target.name, target.name)
        elif target == ROOT / "README.md":
            place = "index.md"
        else:
            place = SOURCES + str(target.relative_to(ROOT))
        return found[1] + place + found[3]

    return _LINK.sub(link, page.read_text(encoding="utf-8"))


def reference() -> str:
    """Every command with what it says of itself, and every option with its help and default."""
    parts = [
        "# Commands\n\nOptions are the fields of the settings, which run files and the Python API call by the same names.\n"
    ]
    for name in JOBS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        parts += _described(f"clipmill {name}", command)
    return "\n".join(parts)


def _described(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    yield f"## {name}\n"
    yield f"    {name} {' '.join(command.collect_usage_pieces(context))}\n"
    yield _plain(command.help or "")
    records = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    if records:
        yield "\n| option | |\n|---|---|"
        yield "\n".join(f"| `{_cell(option)}` | {_cell(text)} |" for option, text in records) + "\n"
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            assert found is not None
            yield from _described(f"{name} {sub}", found)


def _plain(text: str) -> str:
    """Help as Markdown: what clicks keeps as it is becomes code."""
    parts = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(
        "\n".join(f"    {line}" for line in part.splitlines()[1:]) if part.startswith("\b") else " ".join(part.split())
        for part in parts
    ).replace("<", "&lt;")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def llms(pages: dict[str, str]) -> str:
    """What there is to read, for programs that answer questions about it (llmstxt.org)."""
    lines = [
        "# clipmill",
        "",
        "> Image/caption Parquet to CLIP embeddings, sharded FAISS indices and retrieval reports, on Ray.",
        "",
    ]
    lines += ["## Pages", ""]
    for name, text in pages.items():
        heading = re.search(r"^#+ (.+)$", text, flags=re.MULTILINE)
        title = heading[1] if heading else name.removesuffix(".md").replace("_", " ")
        lines.append(f"- [{title}]({name}): {first_sentence(text)}")
    return "\n".join(lines) + "\n"


def first_sentence(text: str) -> str:
    """The first sentence of a page's own words."""
    paragraphs = (
        part for part in text.split("\n\n") if part.strip() and not part.startswith(("#", "|", "    ", "```", "!"))
    )
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(next(paragraphs, "").split()))
    return re.split(r"(?<=[.:]) ", plain)[0]


if __name__ == "__main__":
    for made in make_site(Path(sys.argv[1])):
        print(made)
