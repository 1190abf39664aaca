"""python -m scripts.releasing.cut VERSION [DATE]   set the version, and give what is unreleased its heading."""

import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def next_after(old: str, new: str) -> bool:
    """Whether `new` is a version that may follow `old`: one number is one higher, and all behind it are 0."""
    a, b = (tuple(map(int, text.split("."))) for text in (old, new))
    return b in ((a[0] + 1, 0, 0), (a[0], a[1] + 1, 0), (a[0], a[1], a[2] + 1))


def cut(changelog: str, version: str, date: str) -> str:
    """The changelog with [Unreleased] empty and its lines under the version. ValueError where there are none."""
    head, found, rest = changelog.partition("## [Unreleased]\n")
    lines, heading, older = rest.partition("\n## [")
    if not found or not re.search(r"^- ", lines, re.MULTILINE):
        raise ValueError("CHANGELOG.md: nothing stands under ## [Unreleased]")
    if f"## [{version}]" in changelog:
        raise ValueError(f"CHANGELOG.md: {version} is there already")
    return f"{head}## [Unreleased]\n\n## [{version}] - {date}\n{lines}{heading}{older}"


def put(path: Path, pattern: str, text: str) -> None:
    """Replace the one match of a pattern in a file."""
    new, n = re.subn(pattern, text, path.read_text("utf-8"), flags=re.MULTILINE)
    if n != 1:
        raise ValueError(f"{path.name}: expected one line {pattern}, found {n}")
    path.write_text(new, "utf-8")


def main() -> int:
    version = sys.argv[1] if len(sys.argv) > 1 else ""
    package = ROOT / "foveate" / "__init__.py"
    old = re.findall(r'^__version__ = "(.*)"$', package.read_text("utf-8"), re.MULTILINE)[0]
    if not VERSION.fullmatch(version) or not next_after(old, version):
        print(f"scripts/release: version {version!r}: expected one that follows {old}", file=sys.stderr)
        return 2
    date = sys.argv[2] if len(sys.argv) > 2 else datetime.datetime.now(datetime.UTC).date().isoformat()
    changelog = ROOT / "CHANGELOG.md"
    try:
        changelog.write_text(cut(changelog.read_text("utf-8"), version, date), "utf-8")
        put(package, r'^__version__ = ".*"$', f'__version__ = "{version}"')
        put(ROOT / "CITATION.cff", "^version: .*$", f"version: {version}")
    except ValueError as error:
        print(f"scripts/release: {error}", file=sys.stderr)
        return 1
    print(f"cut {version}: look at `git diff`, then commit it as `release: {version}`", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
