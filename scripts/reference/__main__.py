"""python -m scripts.reference [OUT]   what scripts/site does, in its environment."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.reference.tree import ROOT, lay


def main() -> int:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site").absolute()
    if out.exists() and not (out / "sitemap.xml").exists() and any(out.iterdir()):
        print(f"scripts/site: {out} holds something else than a site; name a new folder", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="foveate-site.") as made:
        missing, forgotten = lay(Path(made))
        for name in missing:
            print(f"scripts/site: zensical.toml names {name}, which is not there", file=sys.stderr)
        for name in forgotten:
            print(f"scripts/site: zensical.toml does not name {name}; it stands under More", file=sys.stderr)
        command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", f"{made}/zensical.toml"]
        done = subprocess.run(command, cwd=made, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode != 0:
            print(done.stdout + done.stderr, file=sys.stderr)
            print("scripts/site: the site was not built; what zensical says stands above", file=sys.stderr)
            return 1
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(Path(made) / "site", out)
    print(f"site  {out} ({sum(1 for _ in out.rglob('*.html'))} pages)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
