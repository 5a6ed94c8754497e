"""The documentation as a site: every command and option is in its reference, every link leads somewhere, all is listed."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from clipmill_jobs.__main__ import JOBS, main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "source"
    subprocess.run([sys.executable, ROOT / "docs/make_site.py", folder], check=True, capture_output=True)
    return folder


def test_every_command_and_option_is_in_the_reference(site: Path) -> None:
    text = (site / "reference.md").read_text()
    for name in JOBS:
        found = main.get_command(click.Context(main), name)
        assert found is not None
        jobs = {name: found, **{f"{name} {sub}": one for sub, one in getattr(found, "commands", {}).items()}}
        for title, job in jobs.items():
            part = text.partition(f"\n## clipmill {title}\n")[2].partition("\n## ")[0]
            for parameter in job.params:
                if isinstance(parameter, click.Option) and not parameter.hidden:
                    assert parameter.opts[0] in part, f"{title} {parameter.opts}"


def test_every_link_between_pages_leads_somewhere(site: Path) -> None:
    for page in site.glob("*.md"):
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (site / link).exists(), f"{page.name} links to {link}"


def test_every_page_is_in_the_contents_and_for_programs(site: Path) -> None:
    def named(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [name for value in (entry.values() if isinstance(entry, dict) else entry) for name in named(value)]

    pages = {page.name for page in site.glob("*.md")}
    assert set(named(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])) == pages
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): \S", (site / "llms.txt").read_text(), flags=re.MULTILINE)
    assert set(listed) == pages


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed")
def test_the_site_is_built_without_a_warning(site: Path, tmp_path: Path) -> None:
    configuration = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    changed = {**configuration, "docs_dir": str(site), "site_dir": str(tmp_path / "site")}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(changed))
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", tmp_path / "mkdocs.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
