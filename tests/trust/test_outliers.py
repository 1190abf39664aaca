"""Outliers, overlapping classes, and what to label next."""

import numpy as np
import pytest

from foveate.trust.label_next import least_certain, margins, most_typical
from foveate.trust.outliers import distances, far_ones, odd_looks, overlaps, sharpness


def test_one_that_is_far_from_all_comes_first():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 10)) * 0.2 + np.eye(4, 10)[np.arange(200) % 4] * 3
    x[17] = -5 * np.ones(10)
    found = far_ones(distances(x))
    assert found[0].place == 17
    assert found[0].value > found[0].usual
    assert len(found) < 5


@pytest.mark.parametrize("n", [0, 1, 5])
def test_few_pictures_have_no_outliers(n: int):
    assert far_ones(distances(np.ones((n, 3)))) == []
    assert odd_looks(np.zeros(n), np.zeros(n), np.ones((n, 2), int)) == []


def test_equal_pictures_have_no_outliers():
    assert far_ones(distances(np.ones((50, 3)))) == []


def test_dark_blurred_and_odd_sized_pictures_are_told():
    luminance, sharp, sizes = np.full(40, 120.0), np.full(40, 300.0), np.tile([[640, 480]], (40, 1))
    luminance[3], sharp[5], sizes[7], sizes[9] = 10, 2, (40, 30), (3000, 400)
    found = {(o.kind, o.place) for o in odd_looks(luminance, sharp, sizes)}
    assert found == {("dark", 3), ("blurred", 5), ("odd_size", 7), ("odd_size", 9)}


def test_where_all_are_dark_none_is():
    assert odd_looks(np.full(40, 20.0), np.full(40, 300.0), np.tile([[64, 64]], (40, 1))) == []


def test_a_blurred_picture_is_less_sharp():
    from PIL import Image, ImageFilter

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8))
    assert sharpness(np.asarray(noise.filter(ImageFilter.GaussianBlur(2)))) < 0.05 * sharpness(np.asarray(noise))
    assert sharpness(np.zeros((2, 5))) == 0


def test_overlaps_count_both_directions():
    rows = overlaps(np.array([[50, 5, 0], [3, 40, 0], [0, 1, 20]]))
    assert rows[0] == (0, 1, 8, pytest.approx(8 / 98))
    assert [row[:2] for row in rows] == [(0, 1), (1, 2)]


def test_margins_are_differences_of_the_two_largest():
    assert margins(np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])) == pytest.approx([0.2, 0.7])
    assert margins(np.array([[1.0], [1.0]])) == pytest.approx([1, 1])


def test_the_least_certain_are_spread_over_their_kinds():
    """Of 30 that are equally uncertain, 20 are twins: one of them is enough."""
    rng = np.random.default_rng(0)
    p = np.tile([0.9, 0.1], (100, 1))
    p[:30] = [0.51, 0.49]
    x = rng.normal(size=(100, 8))
    x[:20] = x[0] + 0.001 * rng.normal(size=(20, 8))
    chosen = least_certain(p, x, 5)
    assert len(chosen) == 5
    assert (chosen < 20).sum() <= 1
    p[3] = np.nan
    assert 3 not in least_certain(p, x, 50)
    assert len(least_certain(p[:2], x[:2], 5)) == 2


def test_the_typical_ones_are_one_of_each_kind_the_largest_first():
    rng = np.random.default_rng(0)
    kind = np.array([0] * 30 + [1] * 15 + [2] * 5)
    x = np.eye(3, 6)[kind] * 10 + 0.1 * rng.normal(size=(50, 6))
    assert kind[most_typical(x, 3)].tolist() == [0, 1, 2]
