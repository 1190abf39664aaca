"""A report goes from hand to hand: where its maker's folders are is nobody's business."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def roots_of(folder: Path, command: str | None) -> list[str]:
    """Folders whose place is left out of a report, the longest first: those around the run, around what the command
    names by an absolute path, the working folder and home.
    """
    try:
        words = shlex.split(command or "")
    except ValueError:  # an open quote
        words = (command or "").split()
    found = {str(folder.absolute().parent.parent), os.getcwd(), str(Path.home())}
    found |= {os.path.dirname(os.path.normpath(word)) for word in words if os.path.isabs(word)}
    return sorted((root for root in found if len(root) > 1), key=lambda root: (-len(root), root))


def without_roots(value: Any, roots: list[str]) -> Any:
    """A copy of JSON data in which names below these folders begin there."""
    if isinstance(value, str):
        for root in roots:
            if root in value:
                value = re.sub(rf"(?<![\w./-]){re.escape(root)}{re.escape(os.sep)}", "", value)
        return value
    if isinstance(value, Mapping):
        return {key: without_roots(v, roots) for key, v in value.items()}
    return [without_roots(v, roots) for v in value] if isinstance(value, (list, tuple)) else value
