"""What the site is built from: docs/ with the pages that are made from the code, and a navigation over all of it."""

import json
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scripts.reference import api, commands, fields

ROOT = Path(__file__).resolve().parents[2]
MADE: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands.page,
    "reference/python.md": api.page,
    "reference/recipes.md": fields.recipes,
    "reference/config.md": fields.configs,
}
OVERVIEW = "reference/index.md"  # in the repository it names the made pages, here it leads to them


def listed(nav: Any) -> Iterator[str]:
    """The pages of a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for inner in nav.values() if isinstance(nav, dict) else nav:
            yield from listed(inner)


def kept(nav: Any, pages: set[str]) -> Any:
    """A navigation without pages that are not there, and without what is then empty."""
    if isinstance(nav, str):
        return nav if nav in pages else None
    if isinstance(nav, dict):
        inner = {title: kept(part, pages) for title, part in nav.items()}
        return {title: part for title, part in inner.items() if part} or None
    return [part for part in (kept(part, pages) for part in nav) if part]


def complete(nav: list[Any], pages: set[str]) -> tuple[list[Any], list[str], list[str]]:
    """(navigation, pages that it names and are not there, pages that it had forgotten and that now end it)."""
    named = set(listed(nav))
    forgotten = sorted(pages - named)
    more = [{"More": forgotten}] if forgotten else []
    return [*kept(nav, pages), *more], sorted(named - pages), forgotten


def toml(value: Any) -> str:
    """A value in TOML, everything in line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(part) for part in value) + "]"
    return json.dumps(value)


def lay(folder: Path) -> tuple[list[str], list[str]]:
    """Write docs/, the made pages and zensical.toml into an empty folder; what complete() found comes back."""
    docs = folder / "docs"
    shutil.copytree(ROOT / "docs", docs, ignore=shutil.ignore_patterns("*.ipynb"))
    for name, make in MADE.items():
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        (docs / name).write_text(make(), "utf-8")
    overview = (docs / OVERVIEW).read_text("utf-8")
    for name in MADE:
        page = docs / name
        title = page.read_text("utf-8").partition("\n")[0].removeprefix("# ")
        overview = overview.replace(f"| {title} |", f"| [{title}]({page.name}) |")
    (docs / OVERVIEW).write_text(overview, "utf-8")
    pages = {page.relative_to(docs).as_posix() for page in docs.rglob("*.md")}
    config = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))
    config["project"]["nav"], missing, forgotten = complete(config["project"]["nav"], pages)
    lines = [f"project = {toml(config['project'])}\n"]
    (folder / "zensical.toml").write_text("".join(lines), "utf-8")
    return missing, forgotten
