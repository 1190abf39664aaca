"""Test-time views: which they are, and that their weights sum to one."""

import pytest
import torch

from foveate.train.views import VIEWS, averaged, ten_crops

X = torch.arange(2 * 3 * 5 * 4, dtype=torch.float32).view(2, 3, 5, 4)


@pytest.mark.parametrize("name", VIEWS)
def test_weights_sum_to_one_and_views_have_the_pictures_shape(name):
    seen = list(VIEWS[name](X))
    assert sum(weight for weight, _ in seen) == 1.0 and all(view.shape == X.shape for _, view in seen)
    assert len(seen) == {"one": 1, "mirror": 2, "shifts": 6}[name]


def test_the_six_views_are_the_picture_moved_by_a_pixel_and_mirrored():
    (w0, a), (_, b), (w1, c), _, (w2, d), _ = VIEWS["shifts"](X)
    assert (w0, w1, w2) == (0.25, 0.125, 0.125)
    assert torch.equal(a, X) and torch.equal(b, X.flip(3))
    assert torch.equal(c[:, :, 1:, 1:], X[:, :, :-1, :-1])  # down and right, as seen
    assert torch.equal(d[:, :, :-1, :-1], X[:, :, 1:, 1:])


def test_a_network_that_ignores_order_gives_what_it_gives_alone():
    def mean(x):
        return x.mean((2, 3))

    assert torch.allclose(averaged(mean, X, "mirror"), mean(X))
    assert torch.equal(averaged(mean, X, "one"), mean(X))


def test_ten_crops_are_those_of_torchvision():
    from torchvision.transforms.functional import ten_crop

    x = torch.randn(2, 3, 16, 20)
    ours = list(ten_crops(12)(x))
    assert sum(weight for weight, _ in ours) == pytest.approx(1)
    theirs = ten_crop(x, 12)  # five, then those of the mirrored picture, where left is right
    order = [0, 6, 1, 5, 2, 8, 3, 7, 4, 9]
    for (weight, seen), place in zip(ours, order, strict=True):
        assert weight == pytest.approx(0.1)
        assert torch.equal(seen, theirs[place])
    scores = averaged(lambda seen: seen.mean((2, 3)), x, ten_crops(12))
    assert torch.allclose(scores, torch.stack([seen.mean((2, 3)) for seen in theirs]).mean(0), atol=1e-6)
