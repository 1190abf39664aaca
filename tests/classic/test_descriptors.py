"""Descriptors and coders against golden values (OpenCV, scikit-image) and against what must hold by construction."""

import numpy as np
import pytest
import torch

from foveate.zoo.composed.coders import CODERS, Fisher, Llc, Triangle, solve_ones
from foveate.zoo.composed.descriptors import DESCRIPTORS
from foveate.zoo.composed.descriptors.hog import Hog
from foveate.zoo.composed.descriptors.lbp import Lbp, cells, table
from foveate.zoo.composed.descriptors.sift import Sift


def square(values):
    return torch.as_tensor(values, dtype=torch.float32)[None, None].expand(1, 3, -1, -1)


def pattern(size=16):
    r, c = np.mgrid[:size, :size]
    return square(((7 * r + 13 * c + r * c) % 32) * 8)


def test_hog_is_opencvs():
    found = Hog(16, cell=8)(pattern())
    assert found.shape == (1, 36, 1, 1)
    golden = [0.092135, 0.017574, 0.013725, 0.067138, 0.189291, 0.133225, 0.272101, 0.249394, 0.076759]
    cell = found.view(9, 4)[:, 0]
    np.testing.assert_allclose(cell.numpy(), golden, atol=1e-3)
    assert float(found.sum()) == pytest.approx(5.138535, abs=1e-3)
    assert float(found.square().sum()) == pytest.approx(0.997281, abs=1e-4)
    ramp = Hog(16, cell=8)(square(np.tile(10.0 * np.arange(16), (16, 1)))).view(9, 4)[:, 0]
    np.testing.assert_allclose(ramp.numpy(), [0.35293, 0, 0, 0, 0, 0, 0, 0, 0.35293], atol=1e-4)


def test_hog_does_not_see_light_and_follows_turns():
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    hog = Hog(32, cell=8)
    torch.testing.assert_close(hog(x + 20), hog(x), atol=1e-5, rtol=0)
    torch.testing.assert_close(hog(3 * x), hog(x), atol=3e-3, rtol=0)
    # a mirror turns bin k into 8 - k; the Gaussian is half a pixel off its block's middle, so within a few hundredths
    mirrored = hog(x.flip(3)).view(2, 9, 2, 2, 3, 3).flip(1, 3, 5).reshape(2, 36, 3, 3)
    assert float((mirrored - hog(x)).abs().mean()) < 0.02


def test_lbp_codes_are_scikit_images():
    rows = [[5, 4, 3, 1, 9], [7, 6, 2, 8, 0], [4, 6, 6, 6, 3], [1, 2, 9, 7, 5], [8, 3, 0, 4, 6]]
    found = Lbp(5, grid=1).codes(square(rows))[0]
    assert found.tolist() == [[80, 255, 0], [141, 211, 116], [239, 0, 16]]
    turned = torch.tensor(table("riu2"))[found]
    assert turned.tolist() == [[9, 8, 0], [9, 9, 9], [7, 0, 1]]
    bright = torch.zeros(1, 3, 3, 3)
    bright[:, :, 1, 2] = 9
    assert (
        Lbp(3, grid=1).codes(bright - 1).item() | 131 == 255
    )  # East sets the bits 0, 1 and 7; equal neighbours all others
    assert len(set(table("u2"))) == 59 and len(set(table("riu2"))) == 10


def test_lbp_shares_are_roots_and_a_flat_picture_is_one_pattern():
    x = torch.rand(2, 3, 20, 17, generator=torch.Generator().manual_seed(1)) * 255
    field = Lbp(20, grid=3)(x)
    torch.testing.assert_close(field.square().sum(1), torch.ones(2, 3, 3))
    flat = Lbp(9, grid=1)(torch.full((1, 3, 9, 9), 77.0))
    assert sorted(flat.flatten().tolist())[-2:] == [0.0, 1.0]


def test_cells_are_means():
    x = torch.rand(2, 5, 7, 9)
    found = cells(x, 2)
    torch.testing.assert_close(found[:, :, 0, 1], x[:, :, :4, 5:].mean((2, 3)))


def test_colour_counts_pixels_by_hue_saturation_and_value():
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 255
    found = DESCRIPTORS["colour"](4, grid=1)(red).flatten()
    assert found.nonzero().tolist() == [[0 * 9 + 2 * 3 + 2]] and found.sum() == 1
    half = red.clone()
    half[:, :, :, 2:] = 0
    assert sorted(DESCRIPTORS["colour"](4, grid=1)(half).flatten().tolist())[-2:] == pytest.approx([0.5**0.5] * 2)


def test_sift_has_length_one_and_a_flat_place_none():
    x = torch.rand(1, 3, 40, 36, generator=torch.Generator().manual_seed(2)) * 255
    field = Sift(40, cell=4, step=4)(x)
    assert field.shape == (1, 128, 7, 6)
    torch.testing.assert_close(field.square().sum(1), torch.ones(1, 7, 6), atol=1e-3, rtol=0)
    assert Sift(32)(torch.full((1, 3, 32, 32), 9.0)).abs().max() == 0
    torch.testing.assert_close(Sift(32)(2 * x.round()), Sift(32)(x.round()), atol=2e-2, rtol=0)  # grey is rounded


def field_of(points):
    """Points (L, D) as a field (1, D, 1, L)."""
    return torch.tensor(points, dtype=torch.float32).T[None, :, None, :]


BASE, POINT = [(0, 0), (1, 0), (0, 1), (3, 3)], [(0.2, 0.3)]


def with_words(coder):
    coder.dictionary.copy_(torch.tensor(BASE, dtype=torch.float32))
    return coder


def test_word_codes_are_the_golden_ones():
    triangle = with_words(Triangle(2, (1,), words=4))(field_of(POINT))
    np.testing.assert_allclose(triangle[0], [1.097619, 0.603774, 0.730163, 0], atol=1e-5)
    soft = with_words(CODERS["soft"](2, (1,), words=4, beta=1.0))(field_of(POINT))
    np.testing.assert_allclose(soft[0], [0.450627, 0.247309, 0.302064, 0], atol=1e-5)
    hard = with_words(CODERS["hard"](2, (1,), words=4))(field_of([*POINT, (2.9, 3)]))
    assert hard[0].tolist() == [0.5, 0, 0, 0.5]


@pytest.mark.parametrize(
    ("nearest", "ridge", "golden"),
    [
        (3, 1e-4, [0.499931, 0.200042, 0.300028, 0]),
        (3, 1e-2, [0.493328, 0.204021, 0.302650, 0]),
        (2, 1e-4, [0.699974, 0, 0.300026, 0]),
    ],
)
def test_llc_is_the_analytic_solution(nearest, ridge, golden):
    coder = with_words(Llc(2, (1,), words=4, nearest=nearest, ridge=ridge))
    np.testing.assert_allclose(coder.places(field_of(POINT))[0, 0], golden, atol=2e-5)
    pooled = coder(field_of(POINT))
    assert float(pooled.square().sum()) == pytest.approx(1, abs=1e-5)


def test_elimination_is_a_solution():
    a = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gram = a @ a.transpose(1, 2) + 0.1 * torch.eye(5)
    ones = torch.ones(6, 5, 1, dtype=torch.float64)
    torch.testing.assert_close(solve_ones(gram), torch.linalg.solve(gram, ones)[..., 0])


def test_fisher_vectors_are_the_golden_ones():
    coder = Fisher(2, (1,), components=2, pca=2)
    coder.basis.copy_(torch.eye(2))
    coder.weights.copy_(torch.tensor([0.6, 0.4]))
    coder.means.copy_(torch.tensor([[0.0, 0], [2, 1]]))
    coder.deviations.copy_(torch.tensor([[1, 0.5], [0.5, 2]]).sqrt())
    points = field_of([(0.5, -0.5), (2, 2), (1, 0)])
    first, second = coder.moments(points)
    np.testing.assert_allclose(first.flatten(), [0.564384, -0.284089, -0.179976, 0.280190], atol=1e-5)
    np.testing.assert_allclose(second.flatten(), [-0.213067, -0.380714, -0.250703, -0.217183], atol=1e-5)
    out = coder(points)[0]
    every = torch.tensor([-0.006445, 0.007893, *first.flatten(), *second.flatten()])  # golden: with the weights' part
    theirs = every.sign() * every.abs().sqrt() / every.abs().sum().sqrt()
    np.testing.assert_allclose(theirs[2:6], [0.486492, -0.345156, -0.274724, 0.342779], atol=1e-5)
    np.testing.assert_allclose(out, theirs[2:] / theirs[2:].square().sum().sqrt(), atol=1e-4)
    assert float(out.square().sum()) == pytest.approx(1, abs=1e-5)


def test_a_pyramid_joins_the_means_of_its_cells():
    x = torch.rand(1, 3, 5, 4)
    found = CODERS["mean"](3, (1, 2))(x).view(3, 5)
    torch.testing.assert_close(found[:, 0], x[0].mean((1, 2)))
    torch.testing.assert_close(found[:, 1], x[0, :, :3, :2].mean((1, 2)))
    assert torch.isfinite(CODERS["mean"](3, (8,))(x)).all()  # cells without a place are zeros
