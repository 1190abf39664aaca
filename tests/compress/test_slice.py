"""Removed equals masked: the smaller network gives what the larger one gives with the same channels silenced."""

import copy

import pytest
import torch
from prunable import PLUGS, SHUFFLES, SIDES, prunable
from tiny import host
from torch import nn

from foveate.compress.check import check, distance, pictures, three, unsettle
from foveate.compress.labels import Tracer
from foveate.compress.narrow import narrow
from foveate.compress.plan import random_plan
from foveate.compress.slice import mask, slice_state
from foveate.config import replace
from foveate.errors import ConfigError, FoveateError
from foveate.layers import Layers
from foveate.zoo import FAMILIES, build
from foveate.zoo.families import attention, ghostnet, googlenet, mixnet, nasnet, nfnet, resnet, shufflenet, sknet
from foveate.zoo.tensors import read_tensors, tensor_bytes

SLOW = {"attention", "nasnet", "ghostnet", "googlenet"}  # many widths: two forms


FORMS = [(family, plug) for family in FAMILIES for plug in PLUGS if family not in SLOW or plug in ("plain", "ws")]


@pytest.mark.parametrize(("family", "plug"), FORMS)
def test_removed_is_masked(family, plug):
    config = prunable(family, PLUGS[plug])
    plan = random_plan(config, 0)
    assert plan
    whole, masked, removed = three(config, plan, 0)
    x = pictures(config, 0)[..., : SIDES.get(family, 32), : SIDES.get(family, 32)]
    assert distance(masked, removed, x) <= 1e-12
    assert distance(masked, whole, x) > 1e-9  # the plan removes something that matters
    assert distance(masked.float(), removed.float(), x.float()) <= 1e-5


TWO = (resnet.Stage(8, (8,), 1), resnet.Stage(16, (8, 12), 2))
CIFAR = resnet.ResNetConfig(TWO, stem="cifar", pool="none", stem_widths=(8,))
CASES = {
    "a shortcut that pads": replace(CIFAR, order="pre", stem_norm=False, shortcut="pad"),
    "white order": replace(CIFAR, order="white", layers=Layers("iter_norm(group_size=2)")),
    "deep stem, groups": resnet.ResNetConfig(
        (resnet.Stage(16, (8, 16), 1, 4), resnet.Stage(32, (16,), 2, 4)),
        block="bottleneck",
        order="pre",
        stem="deep",
        stem_widths=(4, 6, 8),
        shortcut="avg",
    ),
    "non-local": replace(CIFAR, stages=(TWO[0], replace(TWO[1], before_last="nonlocal(heads=2)"))),
    "eps that counts the inputs": replace(CIFAR, layers=Layers(conv="ws_conv(add_eps=True, eps=0.1)")),
    "ghost": replace(CIFAR, layers=Layers(conv="ghost")),
    "low rank": replace(CIFAR, layers=Layers(conv="low_rank(rank=2)")),
    "gconv": replace(CIFAR, layers=Layers(conv="gconv")),
    "conv_norm": replace(CIFAR, layers=Layers(conv="conv_norm")),
    "sk": replace(CIFAR, layers=Layers(conv="sk(least=4)")),
    "group_shuffle": replace(CIFAR, layers=Layers(conv="group_shuffle(parts=2)")),
    "gn_plus": replace(CIFAR, layers=Layers("gn_plus(groups=64)", "prelu")),
    "a mask as gate": replace(CIFAR, layers=Layers(attn="residual_mask")),
    "split paths": sknet.SKNetConfig(
        (sknet.Stage(8, (8, 8), (4, 4), 1), sknet.Stage(16, (12,), (6,))), block="basic", split=True, stem=8
    ),
    "inception units": attention.AttentionConfig(
        (attention.Stage(8, 8, 1, 1, stride=1), attention.Stage(16, 16)), unit="inception", stem="cifar", stem_width=8
    ),
    "groups in a norm-free net": nfnet.NFNetConfig(
        (nfnet.Stage(16, (8, 16), 1, 4), nfnet.Stage(32, (16,), 2, 2)), stem_widths=(4, 4, 8, 8), head=0
    ),
    "odd ghosts of ratio 3": ghostnet.GhostNetConfig(
        (ghostnet.Stage((ghostnet.Block(13, 11, True), ghostnet.Block(17, 11, dfc=True))),),
        stem=10,
        last=16,
        head=12,
        ratio=3,
    ),
    "parts that do not divide each other": mixnet.MixNetConfig(
        (mixnet.Stage((mixnet.Block(24, 36, (3, 5, 7), 2, 2, 2), mixnet.Block(24, 48, (3, 5, 7, 9), 1, 3, 2))),),
        stem=12,
        head=16,
    ),
    "halves and concatenated blocks": nasnet.NASNetConfig(
        (nasnet.Stage((nasnet.CellWidths(4),)), nasnet.Stage((nasnet.CellWidths(7),))),
        normal=nasnet.Genotype(
            (nasnet.Block(0, "conv_1x7_7x1", 1, "dil_3x3", "concat"), nasnet.Block(2, "max_3x3", 0, "conv_3x3"))
        ),
        stem="cifar",
        stem_width=8,
    ),
    "shuffles of 2 groups": SHUFFLES,
    "inverse shuffles of 3 groups": shufflenet.ShuffleNetConfig(
        (shufflenet.Stage(36, (18, 27)), shufflenet.Stage(60, (36, 18))), groups=3, stem=12, layout="megvii"
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_removed_is_masked_in(case):
    config = replace(CASES[case], num_classes=5)
    plan = random_plan(config, 0)
    assert plan
    whole, masked, removed = three(config, plan, 0)
    x = pictures(config, 0)[..., :40, :32]
    assert distance(masked, removed, x) <= 1e-12
    assert distance(masked, whole, x) > 1e-9


def silent(model, sites, kept):
    """The model whose modules at `sites` give 0 in all channels but the kept ones, by hooks: knows nothing of ours."""

    def hook(module, inputs, output):
        gate = torch.zeros(output.shape[1], dtype=output.dtype)
        gate[kept] = 1
        return output * gate.view(-1, 1, 1)

    for site in sites:
        model.get_submodule(site).register_forward_hook(hook)
    return model


@pytest.mark.parametrize(
    ("family", "name", "kept", "sites", "before"),
    [
        ("resnet", "stages.1.mid.1", [1, 2, 6], ["layer2.1.act1", "layer2.1.act2"], 0),
        ("resnet", "stages.1.width", [0, 3, 9, 31], ["layer2.0.act3", "layer2.1.act3"], 0),
        ("densenet", "stages.0.growth.1", [1, 3], ["features.transition1.act"], 12),  # stem 8, growth 4 before it
        ("efficientnet", "stages.1.mid.0", [0, 5, 7, 15], ["blocks.1.0.act2"], 0),
        ("googlenet", "stages.0.modules.0.branch2.1", [0, 2, 5], ["inception3a.branch2.1"], 0),
        (
            "sknet",
            "stages.1.mid.1",
            [0, 5, 8, 15],
            ["layer2.1.act1", "layer2.1.conv2.paths.0.act", "layer2.1.conv2.paths.1.act"],
            0,
        ),
        ("vgg", "stages.1.widths.1", [2, 4], ["features.9"], 0),
    ],
)
def test_removed_is_what_gates_behind_the_activations_leave(family, name, kept, sites, before):
    config = replace(host(family, Layers()), num_classes=5)
    if family == "sknet":
        config = replace(config, stages=tuple(replace(stage, groups=1) for stage in config.stages))
    model = unsettle(build(config), 0).double().eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    smaller = build(narrow(config, {name: kept})).double().eval()
    smaller.load_state_dict(slice_state(config, model.state_dict(), {name: kept}))
    with torch.no_grad():
        whole = model(x)
        gated = silent(model, sites, [*range(before), *(before + i for i in kept)])(x)
        assert (gated - smaller(x)).abs().max() <= 1e-12 < (gated - whole).abs().max()


def test_masking_is_of_the_channels_and_of_nothing_else():
    config = CIFAR
    model, plan = build(config), {"stages.0.mid.0": [0, 2, 3, 4, 5, 6, 7]}
    before = copy.deepcopy(model.state_dict())
    mask(model, plan)
    after = model.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer1.0.conv2.weight"}
    assert not after["layer1.0.conv1.weight"][1].any() and not after["layer1.0.conv2.weight"][:, 1].any()
    assert torch.equal(after["layer1.0.conv1.weight"][2:], before["layer1.0.conv1.weight"][2:])


def test_squeeze_channels_of_the_largest_weights_stay():
    config = replace(CIFAR, layers=Layers(attn="se(ratio=0.25)"))
    model, plan = build(config), {"stages.1.width": list(range(8))}
    state = model.state_dict()
    for i, size in enumerate((1.0, 0.1, 3.0, 0.2)):
        state["layer2.0.se.fc1.weight"][i] = size
    made = slice_state(config, state, plan)
    assert made["layer2.0.se.fc1.weight"].shape == (2, 8, 1, 1)
    assert made["layer2.0.se.fc1.weight"][:, 0, 0, 0].tolist() == pytest.approx([1.0, 3.0])


@pytest.mark.parametrize("family", ["resnet", "ghostnet", "sknet", "shufflenet"])
def test_the_smaller_network_is_saved_loaded_and_trained(family, tmp_path):
    config = prunable(family, PLUGS["plain"])
    model, plan = unsettle(build(config), 0).eval(), random_plan(config, 3)
    path = tmp_path / "small.safetensors"
    path.write_bytes(tensor_bytes(slice_state(config, model.state_dict(), plan)))
    small = build(narrow(config, plan))
    small.load_state_dict(read_tensors(path))
    mask(model, plan)
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(small.eval()(x), model(x), atol=1e-5)
    small.train()
    optimizer = torch.optim.SGD(small.parameters(), lr=0.01)
    loss = nn.functional.cross_entropy(small(x), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters())
    optimizer.step()
    assert small(x).isfinite().all()


def test_slicing_twice_is_slicing_once():
    model = unsettle(build(CIFAR), 0).eval()
    first, second = {"stages.1.width": list(range(4, 16))}, {"stages.1.width": [0, 1, 5, 11]}
    once = slice_state(CIFAR, model.state_dict(), {"stages.1.width": [4, 5, 9, 15]})
    half = slice_state(CIFAR, model.state_dict(), first)
    twice = slice_state(narrow(CIFAR, first), half, second)
    assert once.keys() == twice.keys() and all(torch.equal(once[k], twice[k]) for k in once)


def test_the_tensors_of_auxiliary_classifiers_are_sliced_too():
    branches = googlenet.Branches(4, (4, 8), (4, 4), 4)
    config = googlenet.GoogLeNetConfig(
        (googlenet.Stage((branches,), 3), googlenet.Stage((branches,))), stem=(8, 8, 8), aux=True, aux_after=("3a",)
    )
    model, plan = unsettle(build(config), 0).double().eval(), random_plan(config, 0)
    small = build(narrow(config, plan)).double().eval()
    small.load_state_dict(slice_state(config, model.state_dict(), plan))
    mask(model, plan)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        (a, [b]), (c, [d]) = model.forward_aux(x), small.forward_aux(x)
    assert max((a - c).abs().max(), (b - d).abs().max()) <= 1e-12


def test_a_state_of_another_network_is_refused():
    state = build(CIFAR).state_dict()
    with pytest.raises(ConfigError, match="layer1"):
        slice_state(CIFAR, state | {"layer1.0.conv1.weight": torch.zeros(3, 3)}, {"stages.1.width": [0]})


def test_the_check_says_where_nothing_can_shrink():
    with pytest.raises(ConfigError, match="no width of this config can shrink"):
        check(host("mgic", Layers()))
    with pytest.raises(ConfigError, match="share"):
        check(CIFAR, share=1.0)


def test_an_operation_that_is_not_known_stops_the_run_on_labels():
    x = torch.ones(1, 4, 1, 1)
    with pytest.raises(FoveateError, match="cumsum"), Tracer((), ()):
        x.cumsum(1)
