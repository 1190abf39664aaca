"""Heat maps: golden values, exactness of class activation maps in every family, and the check by covering."""

import numpy as np
import pytest
import torch
from tiny import TINY
from torch import nn

from foveate.trust.heat import METHODS, heat
from foveate.trust.occlusion import check, covered, marked_cells, random_block
from foveate.zoo import build

LOGITS = (-0.02701958, 0.00183797, 0.22225802)
CAM = """.031315 -.012403 .039237 .231761 .021615 -.026218 .188916 .124777
-.167626 .055134 -.127159 -.02375 -.115678 .062123 .118949 -.044866"""
PLUS = """.121991 .092091 .388689 1 .230901 .269043 .717805 .686747
.066901 .435214 0 .230228 .064339 .665971 .894857 .230594"""
LAYER = (
    ".119129 .089931 .388689 1 .225484 .26807 .712644 .676438 .065331 .430004 0 .224827 .064339 .665971 .894857 .230594"
)


class Golden(nn.Module):
    """Two convolutions, mean, linear, with whole-number weights, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.fc = nn.Linear(4, 3)
        self.double()
        for parameter, (step, modulus, less, by) in (
            (self.conv1.weight, (3, 5, 1.75, 5)),
            (self.conv2.weight, (5, 11, 4.75, 11)),
            (self.fc.weight, (2, 7, 2.75, 7)),
        ):
            j = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.data = (((step * j) % modulus - less) / by).reshape(parameter.shape)
        self.fc.bias.data = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(x).relu()).relu()

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        return self.fc(features.mean((2, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split()]


@pytest.fixture(scope="module")
def golden() -> tuple[Golden, torch.Tensor]:
    return Golden(), ((5 * torch.arange(64, dtype=torch.float64)) % 11 / 10).reshape(1, 1, 8, 8)


def test_cam_has_its_golden_values_and_its_mean_is_the_logit(golden):
    found = heat(*golden)
    assert found.method == "cam"
    assert found.exact
    assert found.logits[0].tolist() == pytest.approx(LOGITS, abs=1e-7)
    assert found.values.flatten().tolist() == pytest.approx(numbers(CAM), abs=1e-5)
    assert float(found.values.mean() + found.offset[0]) == pytest.approx(LOGITS[2], abs=1e-7)


@pytest.mark.parametrize(("method", "values"), [("gradcam++", PLUS), ("layercam", LAYER)])
def test_gradient_maps_have_their_golden_values(golden, method: str, values: str):
    found = heat(*golden, method=method).values
    assert (found / found.max()).flatten().tolist() == pytest.approx(numbers(values), abs=1e-5)


def test_on_a_linear_head_hirescam_is_cam_and_gradcam_its_positive_part(golden):
    cam, high, plain = (heat(*golden, method=name).values for name in ("cam", "hirescam", "gradcam"))
    assert torch.allclose(high * 16, cam)
    assert torch.allclose(plain * 16, cam.relu())


@pytest.mark.parametrize("name", sorted(TINY))
def test_in_every_family_the_map_explains_the_logit_or_says_that_it_does_not(name: str):
    torch.manual_seed(0)
    model = build(TINY[name]).eval()
    side = getattr(TINY[name], "resolution", 32)
    x = torch.randn(2, getattr(TINY[name], "in_chans", 3), min(side, 64), min(side, 64))
    found = heat(model, x)
    own = found.logits.amax(1)
    assert torch.allclose(model(x).amax(1), own, atol=1e-4)
    assert found.values.isfinite().all()
    if found.exact:
        assert found.method == "cam"
        assert torch.allclose(found.values.mean((1, 2)) + found.offset, own, atol=1e-3)
    else:
        assert found.method == "gradcam++"
        assert (found.values >= 0).all()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_another_class_has_another_map(golden):
    model, x = golden
    first, second = (heat(model, x, torch.tensor([k])) for k in (0, 2))
    assert not torch.allclose(first.values, second.values)
    assert float(first.values.mean() + first.offset[0]) == pytest.approx(LOGITS[0], abs=1e-7)


def test_no_gradient_no_map(golden):
    """Where a class does not depend on the features, Grad-CAM++ divides 0 by 0."""
    model, x = Golden(), golden[1]
    model.fc.weight.data.zero_()
    for method in METHODS:
        assert torch.equal(heat(model, x, method=method).values, torch.zeros(1, 4, 4, dtype=torch.float64))


class Corner(nn.Module):
    """Class 1 is the brightness of the upper left quarter."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.shape[2] // 2
        bright = x[:, :, :half, :half].mean((1, 2, 3))
        return torch.stack((torch.zeros_like(bright), 6 * bright), 1)


def test_covering_what_matters_drops_more_than_chance_and_covering_the_rest_does_not():
    x = torch.zeros(3, 32, 32)
    x[:, :16, :16] = 1
    right, wrong = torch.zeros(8, 8), torch.zeros(8, 8)
    right[:4, :4], wrong[4:, 4:] = 1, 1
    found = check(Corner(), x, 1, right)
    assert found.matters
    assert found.marked > 2 * found.random > 0
    assert not check(Corner(), x, 1, wrong).matters


def test_covered_cells_have_the_mean_colour_and_the_others_stay():
    x = torch.rand(3, 8, 8)
    mask = np.zeros((1, 4, 4), bool)
    mask[0, 0, 0] = True
    out = covered(x, mask)[0]
    assert torch.allclose(out[:, :2, :2], x.mean((1, 2))[:, None, None].expand(3, 2, 2))
    assert torch.equal(out[:, 2:], x[:, 2:])


def test_random_blocks_are_connected_and_of_the_size_that_was_asked_for():
    from scipy.ndimage import label

    rng = np.random.default_rng(0)
    for shape, cells in (((7, 7), 12), ((4, 4), 4), ((1, 9), 3), ((5, 5), 25)):
        block = random_block(shape, cells, rng)
        assert block.sum() == cells
        assert label(block)[1] == 1
    assert marked_cells(np.array([[3.0, 1.0], [2.0, 4.0]]), 2).tolist() == [[True, False], [False, True]]
