"""The field: which variants of the zoo promise most at each cost."""

import numpy as np
import pytest

from foveate.data.index import open_data
from foveate.selection.shortlist import cost_of, list_priors, rough_macs, spread
from foveate.zoo.catalogue import entry


@pytest.fixture(scope="module")
def digits():
    return list_priors(open_data("digits"))


def test_thumbnails_get_the_forms_for_thumbnails(digits):
    assert all("_cifar" in p.model and p.resolution == 16 for p in digits)
    assert [p.cost for p in digits] == sorted(p.cost for p in digits)
    assert len(digits) > 20


def test_costs_scale_with_the_pixels_and_the_family():
    assert rough_macs("resnet18", 112) == entry("resnet18").macs / 4
    assert cost_of("resnet18", 224) == entry("resnet18").macs
    assert cost_of("mixnet_s", 224) == pytest.approx(4.2 * entry("mixnet_s").macs)


def test_a_lower_resolution_promises_less(tmp_path):
    from PIL import Image

    for i in range(9):
        path = tmp_path / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((240, 260, 3), 25 * i, np.uint8)).save(path)
    found = {(p.model, p.resolution): p for p in list_priors(open_data(tmp_path))}
    assert found["resnet18", 224].merit == entry("resnet18").published.top1
    assert found["resnet18", 96].merit == pytest.approx(entry("resnet18").published.top1 - 7 * np.log2(224 / 96))
    sizes = {p.resolution for p in found.values()}
    assert max(sizes) == 260 and ("resnet18", 260) not in found  # no larger than the pictures, nor than published


def test_the_spread_covers_the_range_and_changes_families(digits):
    low, high = digits[0].cost, 3e8
    chosen = spread(digits, low, high, 8)
    assert 5 <= len(chosen) <= 8 and len(set(chosen)) == len(chosen)
    assert max(p.cost for p in chosen) <= 1.001 * high and min(p.cost for p in chosen) <= 1.5 * low
    assert len({p.family for p in chosen}) >= 3
    for p in chosen:  # nothing cheaper of the same family promises more than two others could
        better = [q for q in digits if q.family == p.family and p.cost / 1.5 <= q.cost <= p.cost and q.merit > p.merit]
        assert all(q in chosen for q in better)
    assert not set(spread(digits, low, high, 8, known=chosen)) & set(chosen)
