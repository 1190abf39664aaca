"""Learning rate, parameter groups, weight average."""

import math

import pytest
import torch
from tiny import NARROW
from torch import nn

from foveate.config import replace
from foveate.layers import ACTS, ATTNS, CONVS, NORMS, Layers
from foveate.layers.traits import Traits, kernel_names
from foveate.train.optim import Average, freeze, learning_rate, make_optimizer, parameter_groups, set_lr
from foveate.train.recipe import Optim, Schedule
from foveate.zoo import FAMILIES, build, create_model, variant


def test_warm_up_is_linear_and_cosine_ends_near_zero():
    schedule = Schedule(warmup=2.0)
    rates = [learning_rate(schedule, 0.4, i, 100, 10) for i in range(100)]
    assert rates[:20] == pytest.approx([0.4 * (i + 1) / 20 for i in range(20)])
    assert rates[60] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)) * 0.4)
    assert 0 < rates[99] < 0.4 * 0.001


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_rates_fall_to_the_final_share(kind):
    rates = [learning_rate(Schedule(kind=kind, warmup=0.0, final=0.1), 1.0, i, 1000, 10) for i in range(1000)]
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(1.0 if kind == "constant" else 0.1, abs=2e-3)


def test_resnet50_has_54_decayed_and_107_undecayed_tensors():
    with torch.device("meta"):
        model = create_model("resnet50")
    groups = parameter_groups(model, Optim(), ("fc.",))
    decayed = sum(len(g["params"]) for g in groups if g["weight_decay"] > 0)
    assert (decayed, sum(len(g["params"]) for g in groups) - decayed) == (54, 107)


def test_the_head_learns_faster_than_the_backbone():
    model = create_model("resnet20_cifar")
    optimizer = make_optimizer(model, Optim(backbone=0.25), ("fc.",))
    set_lr(optimizer, 0.8)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rates[id(model.fc.weight)] == 0.8
    assert rates[id(model.conv1.weight)] == pytest.approx(0.2)


def test_rates_fall_from_stage_to_stage():
    model = create_model("resnet18", num_classes=4)
    optimizer = make_optimizer(model, Optim(stage_decay=0.5), ("fc.",))
    set_lr(optimizer, 1.0)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    names = ("fc.weight", "layer4.0.conv1.weight", "layer3.0.bn1.bias", "layer1.0.conv1.weight", "conv1.weight")
    assert [rates[id(model.get_parameter(n))] for n in names] == [1.0, 0.5, 0.25, 0.0625, 0.03125]


def test_a_layer_may_ask_for_a_rate_of_its_own():
    model = create_model("resnet20_cifar", layers={"norm": "bn_small_init"})
    optimizer = make_optimizer(model, Optim(backbone=0.5), ("fc.",))
    set_lr(optimizer, 0.8)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rates[id(model.bn1.weight)] == pytest.approx(0.8 * 0.5 * 0.01)  # arXiv:2110.13989
    assert rates[id(model.bn1.bias)] == rates[id(model.conv1.weight)] == pytest.approx(0.4)


def test_the_average_follows_its_closed_form():
    model, shadow = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    average, expected = Average(model, shadow, 0.9), 0.0
    for t in range(1, 30):
        model.weight.data.fill_(float(t))
        average.update()
        decay = min(0.9, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * t
    assert shadow.weight.item() == pytest.approx(expected, rel=1e-5)


def test_frozen_layers_keep_their_weights_and_the_classifier_never_freezes():
    model = create_model("resnet20_cifar")
    norms = freeze(model, 1.0)
    assert norms and not model.conv1.weight.requires_grad
    assert model.fc.weight.requires_grad


def decayed(model, head):
    """Names of the parameters that weight decay is for."""
    groups = parameter_groups(model, Optim(weight_decay=0.1), head)
    chosen = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
    return {name for name, p in model.named_parameters() if id(p) in chosen}


def weights_of_layers(model):
    """Weights of convolutions and linear layers."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    return {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, kinds) and m.weight.requires_grad}


@pytest.mark.parametrize("family", FAMILIES)
def test_decay_is_for_the_weights_of_convolutions_and_linear_layers_alone(family):
    names = {min(FAMILIES[family].variants), max(FAMILIES[family].variants)}
    with torch.device("meta"):
        models = [build(FAMILIES[family].tiny), *(build(variant(name)) for name in sorted(names))]
    for model in models:
        assert decayed(model, FAMILIES[family].head) == weights_of_layers(model)


@pytest.mark.parametrize(
    "layer",
    [*(("norm", n) for n in NORMS), *(("act", n) for n in ACTS), *(("attn", n) for n in ATTNS)]
    + [("conv", n) for n in CONVS if n != "mix_conv"],
)
def test_decay_is_for_the_weights_of_layers_that_are_plugged_in(layer):
    slot, name = layer
    with torch.device("meta"):
        model = build(replace(FAMILIES["resnet"].tiny, layers=replace(Layers(), **{slot: NARROW.get(name, name)})))
    assert decayed(model, ("fc.",)) == weights_of_layers(model)


def test_the_57_gains_of_nfnet_f0_are_not_decayed():
    with torch.device("meta"):
        model = create_model("nfnet_f0")
    gains = [name for name, p in model.named_parameters() if p.ndim == 4 and p.numel() == len(p)]
    assert len(gains) == 57 and not decayed(model, FAMILIES["nfnet"].head) & set(gains)
    every = parameter_groups(model, Optim(weight_decay=0.1, decay_all=True), FAMILIES["nfnet"].head)
    assert all(group["weight_decay"] for group in every)


class Other(nn.Module):
    """Parameters that no layer of ours or torch's declares."""

    def __init__(self, traits=None):
        super().__init__()
        self.matrix, self.gain = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(1, 8, 1, 1))
        self.attention = nn.MultiheadAttention(4, 2)
        if traits is not None:
            self.traits = traits


def test_layers_of_others_are_taken_by_their_traits_or_their_shapes():
    attention = {"attention.in_proj_weight", "attention.out_proj.weight"}
    assert kernel_names(Other()) == {"matrix", *attention}
    assert kernel_names(Other(Traits("conv", kernels=("gain",)))) == {"gain", *attention}
    assert kernel_names(Other(Traits("norm"))) == attention
    assert kernel_names(nn.utils.parametrizations.orthogonal(nn.Linear(3, 3))) == {"parametrizations.weight.original"}
