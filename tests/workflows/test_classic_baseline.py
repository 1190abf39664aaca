"""The classical pipeline that stands beside a fit's result."""

import time

import numpy as np
import pytest

from foveate.config import parse_json
from foveate.data.index import open_data
from foveate.events import silent
from foveate.workflows.classic import baseline, write_baseline


def test_it_learns_what_edges_tell(tmp_path):
    digits = open_data("digits")
    row = baseline(digits, 600.0, 0, silent)
    assert row["name"].endswith("(classic)") and row["name"].startswith("hog(")
    assert row["val_accuracy"] > 0.9 and row["test_accuracy"] > 0.9 and row["seconds"] > 0
    again = baseline(digits, 600.0, 0, silent)
    assert {**again, "seconds": 0} == {**row, "seconds": 0}
    write_baseline(tmp_path, digits, 600.0, 0, silent)
    assert parse_json((tmp_path / "classic.json").read_bytes(), "x")["test_accuracy"] == row["test_accuracy"]


def test_where_the_time_is_too_short_there_is_none_and_it_ends_at_once(tmp_path):
    begun = time.process_time()
    write_baseline(tmp_path, open_data("digits"), 1e-9, 0, silent)
    assert not list(tmp_path.iterdir()) and time.process_time() - begun < 5.0


@pytest.mark.parametrize("classes", [2, 3])
def test_photographs_too(tmp_path, classes):
    from PIL import Image

    generator = np.random.default_rng(0)
    for c in range(classes):
        (tmp_path / f"c{c}").mkdir()
        for i in range(12):
            pixels = np.clip(generator.normal(60 + 60 * c, 20, (90, 120, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"c{c}" / f"{i}.png")
    row = baseline(open_data(tmp_path), 600.0, 0, silent)
    assert row["val_accuracy"] == row["test_accuracy"] == 1.0
