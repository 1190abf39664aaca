"""What a report tells of how far answers hold: sentences with their intervals, plots, and nothing where nothing is."""

import re

import numpy as np
import pytest

from foveate.config import to_dict
from foveate.report.page import render, report_view
from foveate.report.trust import trust_view
from foveate.runs.trust import Fitted, make_trust_part
from foveate.trust.fit import fit_trust
from foveate.trust.strangers import know


def part(n: int) -> dict:
    """Of n generated pictures: logits twice as sure as they are right, features around the class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 2 * n)
    features = np.eye(8)[labels] + 0.3 * rng.random((2 * n, 8))
    logits = 3 * np.eye(3)[labels] + 2 * rng.normal(size=(2 * n, 3))
    trust, known = fit_trust(2 * logits[:n], labels[:n], features[:n], know(features[:n], 4))
    made = make_trust_part(Fitted(trust, known), 2 * logits[n:], features[n:], labels[n:], "test")
    return to_dict(made)


@pytest.fixture(scope="module")
def trust() -> dict:
    return part(300)


def test_scaling_halves_what_was_twice_too_sure(trust):
    assert trust["temperature"] == pytest.approx(2.0, rel=0.5) and trust["ece"] < trust["ece_before"]
    assert trust["brier"] < trust["brier_before"]
    low, high = trust["ece_interval"]
    assert low <= high and trust["ece_null"][0] < trust["ece_null"][1]
    assert trust["keep"]["kept"] == pytest.approx(0.95, abs=0.05)
    assert trust["sets"]["held"] == pytest.approx(0.95, abs=0.05) and trust["sets"]["mean_size"] < 3
    shares = [share for share, _ in trust["curve"]]
    assert shares == sorted(shares) and shares[-1] == 1
    assert sum(row["n"] for row in trust["reliability"]) == 300


def test_page_and_summary_tell_it(trust):
    view = report_view({"title": "t", "test": {"accuracy": 0.8, "ece": 0.1}, "trust": trust})
    page, text = render("report.html.j2", view), render("report.md.j2", view)
    for found in (page, text):
        assert "How far the answers hold" in found and "before scaling" in found
        assert re.search(r"\\?-\\?-keep 0.95", found) and "300 test pictures" in found
    assert page.count("<svg") == 2 and "Calibration error (ECE)" not in page
    assert not re.search(r"#0[1-6]0[1-6]0[1-6]", page)  # every colour is one of the page's


def test_a_result_without_it_has_no_such_section():
    assert trust_view({}) == {"trust_lines": [], "trust_plots": []}
    assert "How far" not in render("report.html.j2", report_view({"test": {"accuracy": 0.8}}))


@pytest.mark.parametrize("n", [1, 5, 19, 20])
def test_few_validation_pictures_give_less_and_it_is_said(n):
    rng = np.random.default_rng(n)
    logits, labels = rng.normal(size=(n, 3)), rng.integers(0, 3, n)
    features = rng.normal(size=(n, 6))
    trust, known = fit_trust(logits, labels, features, know(rng.normal(size=(30, 6)), 4))
    assert (known is not None) == (n >= 20) == bool(trust.keep) == bool(trust.sets)
    assert trust.pictures == n and (n >= 20 or str(n) in trust.note)
    made = to_dict(make_trust_part(Fitted(trust, known), logits, features, labels, "val"))
    assert trust_view(made)["trust_lines"]


def test_nonsense_is_not_fitted():
    trust, known = fit_trust(np.full((30, 3), np.nan), np.zeros(30, int))
    assert (trust.kind, trust.scale, known) == ("none", (1.0,), None) and "finite" in trust.note
