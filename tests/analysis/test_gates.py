"""Gates are read from what they do, by class and picture; constant ones can go, and what goes is counted."""

import numpy as np
import pytest
import torch
from torch import nn

from foveate.analysis import gates as g
from foveate.config import replace
from foveate.errors import ConfigError
from foveate.layers.cbam import CBAM
from foveate.layers.eca import ECA
from foveate.layers.non_local import NonLocal
from foveate.layers.se import SqueezeExcite
from foveate.layers.sk import Selection
from foveate.zoo import build, create_model, variant


def seen(model, n=8, classes=2, channels=4):
    torch.manual_seed(0)
    x = torch.randn(n, channels, 6, 6) + torch.randn(n, 1, 1, 1)
    return [(x, torch.arange(n) % classes)]


@pytest.mark.parametrize("layer", [SqueezeExcite, ECA])
def test_the_activation_is_that_of_the_layer(layer):
    torch.manual_seed(1)
    model = nn.Sequential(layer(4, 4))
    if layer is SqueezeExcite:
        nn.init.constant_(model[0].fc1.bias, 2.0)  # one inner unit, that it lives
    batches = seen(model)
    (found,) = g.gates(model, batches, 2)
    x, y = batches[0]
    by_hand = (model[0](x) / x)[..., 0, 0].detach().numpy()
    np.testing.assert_allclose(found.means, by_hand.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.by_class[1], by_hand[1::2].mean(0), rtol=1e-4)
    assert found.spread == pytest.approx(by_hand.std(0).mean(), rel=1e-3)
    assert (found.name, found.kind, found.params) == ("0", layer.__name__, sum(p.numel() for p in model.parameters()))
    assert y.tolist()[:2] == [0, 1]


def test_a_gate_that_gives_the_same_for_every_picture_is_idle():
    model = nn.Sequential(SqueezeExcite(4, 4))
    with torch.no_grad():
        model[0].fc1.bias.fill_(2.0)
        model[0].fc2.weight.zero_()
        model[0].fc2.bias.copy_(torch.tensor([-1.0, 0.0, 1.0, 2.0]))
    batches = seen(model)
    (found,) = g.gates(model, batches, 2)
    assert found.idle and found.spread < 1e-6
    np.testing.assert_allclose(found.means, torch.sigmoid(model[0].fc2.bias).detach(), rtol=1e-5)
    whole = model(batches[0][0])
    with g.without(model, [found]):
        torch.testing.assert_close(model(batches[0][0]), whole)
    with torch.no_grad():
        model[0].fc2.weight.fill_(1.0)
    (found,) = g.gates(model, batches, 2)
    assert not found.idle
    with g.without(model, [found]):
        assert not torch.allclose(model(batches[0][0]), whole)
    assert not model[0]._forward_hooks


def test_what_removal_costs_is_measured():
    torch.manual_seed(0)
    model = nn.Sequential(SqueezeExcite(4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    batches = seen(model, 32)
    found = g.gates(model, batches, 2)
    removal = g.remove(model, found, batches)
    assert removal.names == ("0",) and removal.params == found[0].params and removal.pictures == 32
    assert removal.share == pytest.approx(found[0].params / sum(p.numel() for p in model.parameters()))
    assert removal.loss[0] == pytest.approx(g.judge(model, batches)[0]) and removal.loss[0] != removal.loss[1]


def test_published_shares_of_se_resnet_50():
    """+9.90 % parameters with all gates, +3.72 % without those of the last stage; removed and counted again."""
    with torch.device("meta"):
        net = build(variant("seresnet50"))
    last = [name for name in g.gate_modules(net) if name.startswith("layer4")]
    assert len(g.gate_modules(net)) == 16 and len(last) == 3
    assert g.share_of_parameters(net)[0] == 2_530_992
    assert 100 * g.share_of_parameters(net)[1] == pytest.approx(9.90, abs=0.005)
    assert 100 * g.share_of_parameters(net, last)[1] == pytest.approx(3.72, abs=0.005)
    config = variant("seresnet50")
    bare = replace(config.layers, attn="none")
    smaller = replace(config, stages=(*config.stages[:3], replace(config.stages[3], layers=bare)))
    with torch.device("meta"):
        counts = [sum(p.numel() for p in build(c).parameters()) for c in (smaller, variant("resnet50"))]
    assert counts[0] - counts[1] == g.share_of_parameters(net, last)[0]


def test_stages_come_from_names():
    assert [g.stage_of(n) for n in ("layer4.2.se", "blocks.3.1.se", "0", "attn")] == ["layer4", "blocks.3", "0", "attn"]


def test_an_additive_block_is_no_gate():
    torch.manual_seed(0)
    block = NonLocal(4, True)
    with torch.no_grad():
        block.norm.weight.fill_(5.0)
    model = nn.Sequential(block, SqueezeExcite(4, 4)).eval()
    assert [gate.name for gate in g.gates(model, seen(model), 2)] == ["1"]


def test_selections_and_masks_of_networks_are_read():
    torch.manual_seed(0)
    net = create_model("resnet20_cifar", num_classes=2, layers={"conv": "sk"}).eval()
    x, y = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 0, 1])
    found = g.gates(net, [(x, y)], 2)
    assert found and all(gate.kind == "Selection" and 0 < gate.mean < 1 for gate in found)
    assert isinstance(g.gate_modules(net)[found[0].name], Selection)
    shares = g.by_zoom(net, [(x, y)])
    assert all(
        len(row) == 3 and row[0] == pytest.approx(gate.mean, rel=1e-4)
        for row, gate in zip(shares.values(), found, strict=True)
    )
    with g.without(net, found):
        assert torch.isfinite(net(x)).all()
    attention = create_model("attention56_cifar", num_classes=2).eval()
    found = g.gates(attention, [(x, y)], 2)
    assert len(found) == 3 and {gate.kind for gate in found} == {"Mask"}
    drawn = g.masks(attention, x)
    assert list(drawn) == [gate.name for gate in found] and all(m.shape[0] == 4 for m in drawn.values())
    assert all(float(m.min()) >= 0 and float(m.max()) <= 1 for m in drawn.values())


def test_masks_are_drawn_of_gates_that_tell_pixels_apart():
    torch.manual_seed(0)
    model = nn.Sequential(SqueezeExcite(4, 4), CBAM(4, 4)).eval()
    with torch.no_grad():
        model[1].spatial.bn.weight.fill_(3.0)
    assert list(g.masks(model, seen(model)[0][0])) == ["1"]


def test_enlarged_is_the_middle():
    x = torch.zeros(1, 1, 8, 8)
    x[..., 2:6, 2:6] = 1
    assert float(g.enlarged(x, 2.0).min()) > 0.9 and torch.equal(g.enlarged(x, 1.0), x)


def test_no_gate_and_no_picture():
    assert g.gates(nn.Sequential(nn.ReLU()), [], 2) == []
    with pytest.raises(ConfigError, match="no batch"):
        g.gates(nn.Sequential(ECA(4, 4)), [], 2)
