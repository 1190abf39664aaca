"""review.html: one file with thumbnails in it, where a person looks and decides."""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np

from foveate.report.page import render
from foveate.report.plots import thumbnail

KINDS = {"far": "unlike the others", "dark": "dark", "blurred": "blurred", "odd_size": "odd size"}
SHOWN = 60


def page(found: Mapping[str, Any], pixels: Mapping[str, np.ndarray]) -> str:
    """The page of a review. pixels: uint8 (H, W, 3) by the names that it shows."""
    from markupsafe import Markup

    script = files("foveate.report").joinpath("templates", "review.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    view = {
        "r": found,
        "images": {name: thumbnail(picture) for name, picture in pixels.items()},
        "kinds": KINDS,
        "shown": SHOWN,
        "script": Markup(script),
        "script_hash": Markup(digest),
    }
    return render("review.html.j2", view)
