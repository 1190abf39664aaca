"""What layers declare: every entry of the tables is known for what it is wherever networks are changed."""

from types import MappingProxyType

import pytest
import torch
from tiny import host
from torch import nn

from foveate import layers
from foveate.backbones.backbone import backbone
from foveate.compress.check import distance, pictures, three
from foveate.compress.couple import couple
from foveate.compress.criteria import make_criterion
from foveate.compress.gates import Gates
from foveate.compress.plan import random_plan
from foveate.compress.structure import structure
from foveate.config import replace
from foveate.layers import ATTNS, CONVS, NORMS, Layers
from foveate.layers.traits import Traits, is_norm, traits_of
from foveate.train.optim import has_statistics
from foveate.zoo import build
from foveate.zoo.families.resnet import network as resnet

STAGES = (resnet.Stage(8, (12, 8), 1), resnet.Stage(16, (12,), 2))
HOST = resnet.ResNetConfig(STAGES, stem="cifar", pool="none", stem_widths=(8,), num_classes=5, resolution=16)


@pytest.mark.parametrize("name", [name for name in NORMS if name != "none"])
def test_a_norm_is_known_as_one(name):
    norm = NORMS[name](16)
    traits = traits_of(norm)
    assert is_norm(norm)
    assert 16 % traits.together == 0
    assert structure(nn.Sequential(norm), frozenset())["0"][1] == f"{traits.together} channels a group"
    model = build(replace(HOST, layers=Layers(name)))
    norms = {name for name, m in model.named_modules() if type(m) is type(norm)}
    carried = {key.rpartition(".")[0] for key, axis in couple(model.config).trace.axes if axis == 0}
    assert norms <= carried or not list(norm.parameters())
    made = backbone(model, frozen_norms=True)
    kept = [m for m in made.modules() if type(m) is type(norm)]
    assert kept and not any(m.training or any(p.requires_grad for p in m.parameters()) for m in kept)


@pytest.mark.parametrize("name", [name for name in NORMS if name != "none"])
def test_a_norm_carries_gates_and_scales_where_its_channels_can_go(name):
    model = build(replace(HOST, layers=Layers(name if name != "group_norm" else "group_norm(groups=4)"))).eval()
    if not couple(model.config).groups:
        assert all("all " in reason for reason in couple(model.config).refused.values())
        return
    at = [module for module, output, _ in Gates(model, "norm").places if output]
    assert at and all(is_norm(module) for module in at)
    learnt = dict(model.named_parameters())
    if all(f"{name}.weight" in learnt for name, m in model.named_modules() if is_norm(m)):
        assert make_criterion("bn_scale").score(model, []).values.keys() == couple(model.config).groups.keys()


# where this narrow host would leave the entry's convolutions plain
NARROW = {"mgic": "mgic(group=2, coarsest=2)", "sk": "sk(least=4)"}


@pytest.mark.parametrize("name", [name for name in ATTNS if name != "none"])
def test_a_gate_is_known_and_followed(name):
    assert traits_of(ATTNS[name](16, 16)).kind == "gate"
    assert_followed(replace(HOST, layers=Layers(attn=name)))


@pytest.mark.parametrize("name", CONVS)
def test_a_convolution_is_known_and_followed(name):
    config = replace(HOST, layers=Layers(conv=NARROW.get(name, name)))
    if name == "mix_conv":  # only where convolutions are depthwise
        config = replace(host("mobilenet", config.layers), num_classes=5)
    with torch.device("meta"):
        kinds = [t.kind for m in build(config).modules() if type(m) is not nn.Conv2d and (t := traits_of(m))]
    assert "conv" in kinds or name.startswith("conv2d")
    assert_followed(config)


def assert_followed(config):
    """Removed is masked; or no width can shrink, for what a layer says."""
    plan = random_plan(config, 0)
    if not plan:
        fixed = {t.fixed for m in build(config).modules() if (t := traits_of(m)) is not None}
        reasons = (fixed - {""}) or {"all of its channels go together"}  # mgic: every width is halved and halved
        assert reasons & set(couple(config).refused.values())
        return
    whole, masked, removed = three(config, plan, 0)
    x = pictures(config, 0)
    assert distance(masked, removed, x) <= 1e-12 < distance(masked, whole, x)


def test_what_declares_nothing_is_nothing():
    assert traits_of(nn.ReLU()) is traits_of(nn.Linear(2, 2)) is traits_of(nn.Sequential(nn.BatchNorm2d(2))) is None
    assert traits_of(nn.Conv2d(2, 2, 1)) == Traits("conv")
    assert not is_norm(nn.Conv2d(2, 2, 1))


class HalfNorm(nn.Module):
    """A norm that no list knows: pairs of channels share a second moment."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_power", torch.ones(channels // 2, 1, 1))

    traits = Traits("norm", 2)

    def forward(self, x):
        y = x.unflatten(1, (-1, 2)) / self.running_power.unsqueeze(-1).sqrt()
        return y.flatten(1, 2) * self.weight.view(-1, 1, 1)


def test_a_new_norm_is_its_file_and_its_line(monkeypatch):
    monkeypatch.setattr(layers, "NORMS", MappingProxyType({**NORMS, "half_norm": HalfNorm}))
    config = replace(HOST, layers=Layers("half_norm"))
    assert all(len(c) == 2 for unit in couple(config).groups["stages.0.mid.0"].units for c in unit.channels.values())
    plan = random_plan(config, 0)
    _, masked, removed = three(config, plan, 0)
    assert distance(masked, removed, pictures(config, 0)) <= 1e-12
    model = build(config)
    assert all(isinstance(m, HalfNorm) for m, output, _ in Gates(model, "norm").places if output)
    assert make_criterion("bn_scale").score(model, []).values
    assert all(has_statistics(m) for m in model.modules() if isinstance(m, HalfNorm))
    kept = [m for m in backbone(model, frozen_norms=True).modules() if isinstance(m, HalfNorm)]
    assert kept and not any(m.training or m.weight.requires_grad for m in kept)
