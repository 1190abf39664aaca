"""Squeeze-and-excitation against golden values, counts of public checkpoints, and what defines a gate."""

import pytest
import torch
from fills import fill

from foveate.errors import ConfigError
from foveate.layers.se import SqueezeExcite, squeeze_width


def test_golden_values():
    gate = SqueezeExcite(8, 8, ratio=0.25).double()
    for p in gate.parameters():
        p.data = fill(p.shape, 0.5) if p.ndim > 1 else torch.zeros_like(p)
    x = fill((4, 8, 6, 6)) + 0.25 * torch.arange(8, dtype=torch.float64).view(-1, 1, 1)
    y = gate(x)
    assert y.flatten()[:3].tolist() == pytest.approx((0.18196249, 0.19588995, 0.23306269), rel=1e-6)
    assert y.square().sum().item() == pytest.approx(1476.75038770, rel=1e-9)
    gates = (0.606542, 0.719960, 0.805038, 0.862400, 0.898392, 0.919584, 0.930655, 0.934217)
    assert (y / x)[0, :, 0, 0].tolist() == pytest.approx(gates, abs=1e-6)


@pytest.mark.parametrize(("channels", "params"), [(256, 8_464), (512, 33_312), (1024, 132_160), (2048, 526_464)])
def test_parameters_follow_the_closed_form(channels, params):
    with torch.device("meta"):
        assert sum(p.numel() for p in SqueezeExcite(channels, channels).parameters()) == params


def test_a_silent_second_layer_halves_and_a_large_bias_lets_pass():
    gate, x = SqueezeExcite(16, 16), torch.randn(2, 16, 3, 4)
    torch.nn.init.zeros_(gate.fc2.weight)
    torch.nn.init.zeros_(gate.fc2.bias)
    assert torch.allclose(gate(x), x / 2)
    torch.nn.init.constant_(gate.fc2.bias, 50.0)
    assert torch.equal(gate(x), x)


def test_gates_are_the_same_at_every_pixel():
    gate, x = SqueezeExcite(8, 8, ratio=0.5).double(), torch.randn(2, 8, 4, 5, dtype=torch.float64)
    shares = (gate(x) / x).flatten(2)
    assert (shares - shares[:, :, :1]).abs().max() < 1e-9
    assert shares.min() > 0 and shares.max() < 1
    order = torch.randperm(20)
    moved = gate(x.flatten(2)[:, :, order].reshape(x.shape)).flatten(2)
    assert torch.allclose(moved, gate(x).flatten(2)[:, :, order])


def test_squeeze_widths_are_those_of_the_libraries():
    assert [squeeze_width(c, 0.25, 8) for c in (16, 72, 120, 672)] == [8, 24, 32, 168]  # MobileNetV3
    assert squeeze_width(24, 0.25, 0) == 6  # EfficientNet: no rounding


@pytest.mark.parametrize(
    "options", [{"ratio": 0.0}, {"act": "tanh"}, {"gate": "softmax"}, {"divisor": -1}, {"gain": 0.0}]
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match="se:"):
        SqueezeExcite(8, 8, **options)


def test_the_squeeze_can_be_the_maximum_or_none():
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    for squeeze in ("max", "none"):
        gate = SqueezeExcite(8, 8, ratio=0.5, squeeze=squeeze).double()
        read = torch.nn.functional.max_pool2d(x, (3, 4)) if squeeze == "max" else x
        w1, w2 = gate.fc1.weight[:, :, 0, 0], gate.fc2.weight[:, :, 0, 0]
        inner = (torch.einsum("oc,schw->sohw", w1, read) + gate.fc1.bias.view(-1, 1, 1)).clamp(min=0)
        outer = torch.einsum("oc,schw->sohw", w2, inner) + gate.fc2.bias.view(-1, 1, 1)
        assert torch.allclose(gate(x), x / (1 + torch.exp(-outer)), atol=1e-12)


@pytest.mark.parametrize(("gate", "function"), [("tanh", torch.tanh), ("relu", torch.relu)])
def test_gates_of_the_papers_ablation(gate, function):
    layer, x = SqueezeExcite(8, 8, gate=gate), torch.randn(2, 8, 3, 4)
    torch.nn.init.zeros_(layer.fc2.weight)
    torch.nn.init.constant_(layer.fc2.bias, 0.7)
    assert torch.allclose(layer(x), x * function(torch.tensor(0.7)))
    with pytest.raises(ConfigError, match="squeeze"):
        SqueezeExcite(8, 8, squeeze="sum")


def test_a_gate_in_groups_is_gates_side_by_side():
    whole = SqueezeExcite(12, 12, ratio=0.5, groups=3)
    x, parts = torch.randn(2, 12, 3, 4), []
    for i, part in enumerate(x.chunk(3, 1)):
        own = SqueezeExcite(4, 4, ratio=0.5)
        with torch.no_grad():
            for name in ("fc1", "fc2"):
                mine, theirs = getattr(own, name), getattr(whole, name)
                mine.weight.copy_(theirs.weight.chunk(3)[i])
                mine.bias.copy_(theirs.bias.chunk(3)[i])
        parts.append(own(part))
    assert torch.allclose(whole(x), torch.cat(parts, 1), atol=1e-6)
    with pytest.raises(ConfigError, match="multiple"):
        SqueezeExcite(8, 8, groups=3)
