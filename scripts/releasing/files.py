"""python -m scripts.releasing.files DIST   beside wheel and archive: what they need (CycloneDX), and SHA256SUMS."""

import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def bill(version: str, lock: str, licence: str) -> dict[str, Any]:
    """A CycloneDX 1.6 list of materials: foveate, and every package of requirements.lock with version and hashes."""
    found = re.findall(r"^([a-z0-9-]+)==(\S+)((?:\s*\\?\s*--hash=sha256:[0-9a-f]{64})+)", lock, re.MULTILINE)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": "foveate",
                "name": "foveate",
                "version": version,
                "purl": f"pkg:pypi/foveate@{version}",
                "licenses": [{"license": {"id": licence}}],
            }
        },
        "components": [
            {
                "type": "library",
                "bom-ref": name,
                "name": name,
                "version": held,
                "purl": f"pkg:pypi/{name}@{held}",
                "hashes": [{"alg": "SHA-256", "content": h} for h in re.findall(r"sha256:([0-9a-f]{64})", hashes)],
            }
            for name, held, hashes in found
        ],
    }


def sums(folder: Path) -> str:
    """Lines of `sha256sum` for every file of a folder but itself."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != "SHA256SUMS")
    return "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files)


def main() -> int:
    folder = Path(sys.argv[1])
    (wheel,) = folder.glob("*.whl")
    version = wheel.name.split("-")[1]
    licence = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["license"]
    listed = bill(version, (ROOT / "requirements.lock").read_text("utf-8"), licence)
    (folder / f"foveate-{version}.cdx.json").write_text(json.dumps(listed, indent=1) + "\n", "utf-8")
    (folder / "SHA256SUMS").write_text(sums(folder), "utf-8")
    print(f"{len(listed['components'])} packages listed; digests in {folder / 'SHA256SUMS'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
