"""requirements.lock: what the core needs, each at one version above its floor, with hashes, and no host is named."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
LINE = re.compile(r"([a-z0-9-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})+)")


def pinned():
    lines = [line for line in LOCK.replace(" \\\n    --hash", " --hash").splitlines() if line and line[0] != "#"]
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if match is None]
    return {match[1]: match[2] for match in found}


def test_every_line_has_one_version_and_hashes_and_no_host_is_named():
    assert len(pinned()) > 20
    assert "://" not in LOCK and "index" not in LOCK and "@ " not in LOCK


def test_every_dependency_is_there_above_its_floor():
    versions = pinned()
    for text in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), text
