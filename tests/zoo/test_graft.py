"""graft on networks of torchvision and timm, and on small ones that are hard to graft."""

import copy
import functools

import pytest
import torch
from torch import nn

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.layers.norm import GroupNorm
from foveate.layers.ws_conv import WSConv2d
from foveate.zoo import build, variant
from foveate.zoo.graft import graft

OTHER = {"norm": "group_norm(groups=16)", "act": "silu", "conv": "ws_conv"}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# the rules that put back what stands there: mobilenet_v3 and mixnet mix two activations
SAME = {
    "torchvision resnet18": {"norm": "batch_norm", "act": "relu", "conv": "conv2d"},
    "torchvision mobilenet_v3_small": {"norm": "batch_norm(eps=0.001, momentum=0.01)", "conv": "conv2d"},
    "timm resnet18": {"norm": "batch_norm", "act": "relu", "conv": "conv2d"},
    "timm efficientnet_b0": {"norm": "batch_norm", "act": "silu", "conv": "conv2d"},
    "timm mixnet_s": {"norm": "batch_norm", "conv": "conv2d"},
}


@functools.cache
def foreign(name):
    """A network that is not ours, 10 classes, with statistics as after training. Not to be changed: graft copies."""
    torch.manual_seed(0)
    source, _, name = name.partition(" ")
    if source == "timm":
        import timm

        model = timm.create_model(name, num_classes=10)
    else:
        import torchvision

        model = torchvision.models.get_model(name, num_classes=10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return model


def same_tensors(a, b):
    return a.keys() == b.keys() and all(torch.equal(t, b[n]) for n, t in a.items())


class Small(nn.Module):
    """What a graft has to look at twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding="same")
        self.bn = nn.BatchNorm2d(8, eps=1e-3)
        self.act = nn.ReLU()
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.wide = nn.Conv2d(8, 8, (1, 3), stride=(1, 2), padding=(0, 1))
        self.even = nn.Conv2d(8, 8, 2, padding="same")
        self.mirror = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.long = nn.Conv2d(8, 16, (1, 5), padding=(0, 2))
        self.gate = nn.Sigmoid()
        self.twice = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.act(self.bn(self.conv(x)))
        x = self.twice(self.mirror(self.even(self.wide(self.dilated(x)))))
        x = nn.functional.leaky_relu(self.twice(self.long(x)), 0.1)
        return x * self.gate(x)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


@pytest.mark.parametrize("name", SAME)
def test_the_same_layers_give_the_same_outputs(name):
    model = foreign(name)
    before = copy.deepcopy(model.state_dict())
    grafted, report = graft(model.eval(), SAME[name])
    assert not [change for change in report.replaced if change.new or change.lost]
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (grafted(x) - model(x)).abs().max() <= 1e-6
    assert same_tensors(model.state_dict(), before)


@pytest.mark.parametrize("name", SAME)
def test_a_graft_trains_and_its_tensors_load_again(name):
    model = foreign(name).train()
    before = copy.deepcopy(model.state_dict())
    kinds = [type(m) for m in model.modules()]
    grafted, report = graft(model, OTHER)
    optimiser = torch.optim.SGD(grafted.parameters(), lr=0.01)
    torch.manual_seed(0)
    nn.functional.cross_entropy(grafted(torch.randn(2, 3, 32, 32)), torch.tensor([1, 2])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in grafted.parameters())
    optimiser.step()
    assert same_tensors(model.state_dict(), before) and [type(m) for m in model.modules()] == kinds
    assert not [m for m in grafted.modules() if isinstance(m, nn.BatchNorm2d) or type(m) in (nn.ReLU, nn.Hardswish)]
    twin, again = graft(model, OTHER)
    assert again == report
    twin.load_state_dict(grafted.state_dict())
    assert same_tensors(twin.state_dict(), grafted.state_dict())


def test_the_report_says_what_became_of_each_module():
    model = foreign("torchvision resnet18")
    grafted, report = graft(model, OTHER, only="layer1.0.*", example=torch.zeros(1, 3, 32, 32))
    assert [c.name for c in report.replaced] == [f"layer1.0.{n}" for n in ("conv1", "bn1", "relu", "conv2", "bn2")]
    conv, norm, act = report.replaced[:3]
    assert (conv.slot, conv.before, conv.after, conv.kept, conv.new) == (
        ("conv", "Conv2d", "WSConv2d", ("weight",), ("gain",))
    )
    assert (norm.after, norm.kept, norm.lost) == ("GroupNorm", ("weight", "bias"), STATISTICS)
    assert (act.before, act.after, act.lost) == ("ReLU", "SiLU", ())
    assert (report.left, report.functions) == ({}, ())
    assert torch.equal(grafted.layer1[0].conv1.weight, model.layer1[0].conv1.weight)
    assert torch.equal(grafted.layer1[0].bn2.weight, model.layer1[0].bn2.weight)
    assert grafted.layer1[0].bn1.num_groups == 16 and isinstance(grafted.layer1[1].bn1, nn.BatchNorm2d)
    assert "layer1.0.bn2: BatchNorm2d -> GroupNorm; kept weight, bias; lost running_mean" in str(report)


def test_timms_norm_with_an_activation_inside_becomes_two_modules():
    model = foreign("timm efficientnet_b0")
    grafted, report = graft(model, {"norm": "group_norm"})
    assert [type(m) for m in grafted.bn1] == [GroupNorm, nn.SiLU] and "bn1.norm.weight" in grafted.state_dict()
    assert isinstance(grafted.blocks[0][0].bn2, nn.GroupNorm)  # without an activation: its keys stay
    assert report.replaced[0].after == "Sequential(GroupNorm, SiLU)"
    grafted, report = graft(model, {"norm": "group_norm", "act": "prelu"}, only="bn1*")
    assert [type(m) for m in grafted.bn1] == [GroupNorm, nn.PReLU] and grafted.bn1.act.num_parameters == 32
    grafted, report = graft(model, {"act": "relu"})
    assert grafted.state_dict().keys() == model.state_dict().keys() and isinstance(grafted.bn1.act, nn.ReLU)
    assert report.left["blocks.0.0.se.gate"] == "a Sigmoid, which is a gate"


def test_convolutions_of_their_own_kind_are_left_alone():
    from timm.layers import Conv2dSame, StdConv2d

    model = nn.Sequential(Conv2dSame(3, 8, 3, stride=2), StdConv2d(8, 8, 3), nn.Conv1d(8, 8, 3), nn.Conv2d(8, 8, 3))
    _, report = graft(model, {"conv": "ws_conv"})
    assert report.left == {
        str(i): f"a {kind}; only Conv2d itself is replaced"
        for i, kind in enumerate(("Conv2dSame", "StdConv2d", "Conv1d"))
    }


def test_constants_of_the_old_norm_that_the_rule_does_not_name_are_lost(small):
    _, report = graft(small, {"norm": "batch_norm"})
    assert report.replaced[0].lost == ("eps 0.001 (now 1e-05)",)


def test_what_does_not_fit_is_left_alone_with_the_reason(small):
    grafted, report = graft(small, {"conv": "ws_conv", "norm": "group_norm(groups=4)"})
    assert [c.name for c in report.replaced] == ["conv", "bn", "long"]
    assert list(report.left) == ["dilated", "wide", "even", "mirror"]
    for name, word in {"dilated": "dilation", "wide": "stride", "even": "even kernel", "mirror": "reflect"}.items():
        assert word in report.left[name] and f"{name}: {report.left[name]}" in str(report)
    assert isinstance(grafted.conv, WSConv2d) and grafted.conv.padding == (1, 1) and grafted.long.padding == (0, 2)
    assert "not looked for" in str(report)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_an_example_shows_widths_and_functions(small):
    example = torch.randn(1, 3, 8, 8)
    grafted, report = graft(small, {"act": "prelu"}, example=example)
    assert report.functions == ("(the model) calls leaky_relu",) and "calls leaky_relu" in str(report)
    assert grafted.act.num_parameters == 8 and "met 2 widths" in report.left["twice"]
    assert not grafted.twice.inplace and small.twice.inplace
    with pytest.raises(ConfigError, match="no example has shown"):
        graft(small, {"act": "prelu"})
    grafted, report = graft(small, {"act": "silu"}, example=example)
    assert [c.name for c in report.replaced] == ["act", "twice"]


def test_a_module_of_two_names_stays_one_and_hooks_are_not_lost(small):
    small.again = small.bn
    small.long.register_forward_hook(lambda module, args, y: y)
    grafted, report = graft(small, {"norm": "group_norm", "conv": "conv2d_bias"})
    assert grafted.again is grafted.bn and [c.name for c in report.replaced] == ["conv", "bn", "again"]
    assert "hooks" in report.left["long"]


def test_precision_mode_and_frozen_weights_stay(small):
    small.double().eval().requires_grad_(False)
    grafted, _ = graft(small, {"norm": "group_norm", "conv": "ws_conv"})
    assert {t.dtype for t in grafted.state_dict().values()} == {torch.float64}
    assert not any(m.training for m in grafted.modules())
    assert [n for n, p in grafted.named_parameters() if p.requires_grad] == ["conv.gain", "long.gain"]


def test_a_single_module_is_a_model_too():
    grafted, report = graft(nn.BatchNorm2d(8, affine=False), {"norm": "group_norm"})
    assert isinstance(grafted, nn.GroupNorm) and report.replaced[0].new == ("weight", "bias")
    assert "(the model): BatchNorm2d" in str(report)


def test_what_can_not_be_asked_for_is_refused(small):
    for rules, words in (
        ({"nrom": "group_norm"}, "did you mean norm"),
        ({"norm": "group_nrom"}, "did you mean group_norm"),
        ({"norm": "group_norm(groups=0)"}, "at least 1 group"),
        ({"attn": "se"}, "no place for attn"),
        ({}, "no rule"),
    ):
        with pytest.raises(ConfigError, match=words):
            graft(small, rules)
    with pytest.raises(ConfigError, match="did you mean dilated"):
        graft(small, {"conv": "ws_conv"}, only="dilatde")
    with pytest.raises(ConfigError, match="dilated is a Conv2d with dilation"):
        graft(small, {"conv": "ws_conv"}, only="dilated")
    with pytest.raises(ConfigError, match="no norms that can be replaced"):
        graft(nn.Sequential(nn.Conv2d(3, 8, 3)), {"conv": "ws_conv", "norm": "group_norm"})


def test_a_network_of_the_zoo_is_sent_to_its_config():
    config = variant("resnet20_cifar")
    model = build(config)
    edit = r'replace\(model.config, layers=replace\(model.config.layers, norm="group_norm"\)\)'
    with pytest.raises(ConfigError, match=edit):
        graft(model, {"norm": "group_norm"})
    build(replace(config, layers=replace(config.layers, norm="group_norm")))  # what the message says works
    with pytest.raises(ConfigError, match=r"model\.0\.config"):
        graft(nn.Sequential(model), {"norm": "group_norm"})
