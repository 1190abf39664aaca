"""A release: the cut of the changelog, the next version, the list of materials, the digests."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from scripts.releasing.cut import cut, next_after
from scripts.releasing.files import bill, sums

ROOT = Path(__file__).parents[1]
LOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n\n## [0.1.0] - 2026-01-01\n\n- The first.\n"


def test_what_is_unreleased_gets_its_heading():
    wanted = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-02-03\n\n### Added\n\n- A thing.\n\n## [0.1.0]"
    assert cut(LOG, "0.2.0", "2026-02-03").startswith(wanted)
    assert cut(LOG, "0.2.0", "2026-02-03").endswith("- 2026-01-01\n\n- The first.\n")


def test_a_first_release_has_nothing_below_it():
    log = LOG.partition("\n## [0.1.0]")[0]
    assert cut(log, "0.1.0", "2026-02-03").endswith("## [0.1.0] - 2026-02-03\n\n### Added\n\n- A thing.\n")


@pytest.mark.parametrize("log", ["# Changelog\n", LOG.replace("- A thing.\n", "")])
def test_an_empty_release_is_refused(log):
    with pytest.raises(ValueError, match=r"\[Unreleased\]"):
        cut(log, "0.2.0", "2026-02-03")


def test_a_version_twice_is_refused():
    with pytest.raises(ValueError, match="there already"):
        cut(LOG, "0.1.0", "2026-02-03")


@pytest.mark.parametrize(
    ("old", "new", "may"),
    [
        *(("0.1.0", "0.2.0", True), ("0.1.3", "0.1.4", True), ("0.9.2", "1.0.0", True), ("0.1.0", "0.3.0", False)),
        *(("0.1.0", "0.1.0", False), ("0.2.0", "0.1.9", False), ("0.1.2", "0.2.2", False)),
    ],
)
def test_versions_follow_one_another(old, new, may):
    assert next_after(old, new) is may


def test_the_list_of_materials_has_every_package_of_the_lock():
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    made = bill("0.2.0", lock, "Apache-2.0")
    names = [part["name"] for part in made["components"]]
    assert len(names) == len(set(names)) == lock.count("==") and {"torch", "numpy", "onnxruntime"} <= set(names)
    assert all(
        part["hashes"] and part["purl"] == f"pkg:pypi/{part['name']}@{part['version']}" for part in made["components"]
    )
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6") and "://" not in json.dumps(made)


def test_the_digests_are_those_of_sha256sum(tmp_path):
    (tmp_path / "b.whl").write_bytes(b"two")
    (tmp_path / "a.tar.gz").write_bytes(b"one")
    (tmp_path / "SHA256SUMS").write_text(sums(tmp_path))
    done = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "a.tar.gz: OK\nb.whl: OK\n")
    assert hashlib.sha256(b"one").hexdigest() in sums(tmp_path)
