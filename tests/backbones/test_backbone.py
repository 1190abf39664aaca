"""Backbones: maps on the grid of their strides, frozen parts, sources, rates by depth."""

import re

import pytest
import torch
import torch.nn.functional as F
from heads import SMALL, loss_of, published, small_detector
from tiny import RAGGED, host

from foveate.backbones.backbone import backbone, on_grid, rate_groups
from foveate.backbones.detection import detector
from foveate.backbones.segmentation import segmenter
from foveate.config import replace
from foveate.data.preprocess import Preprocess
from foveate.errors import ConfigError, WeightsError
from foveate.files import write_folder
from foveate.layers import NORMS, Layers
from foveate.train.artefact import ModelCard, model_files
from foveate.train.optim import set_lr
from foveate.zoo import FAMILIES, build, variant
from foveate.zoo.families.resnet.network import Stage
from foveate.zoo.survey import survey


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_can_be_frozen(norm, shapes):
    torch.manual_seed(0)
    model = segmenter(backbone(host("resnet", Layers(norm=norm)), frozen_norms=True), 4)
    kept = {k: v.clone() for k, v in model.body.state_dict().items() if re.search(r"\.bn\d", k)}
    assert bool(kept) == (norm != "none")
    assert not any(p.requires_grad for name, p in model.body.named_parameters() if re.search(r"\.bn\d", name))
    optimizer = torch.optim.SGD(rate_groups(model, 0.1, 0.5))
    F.cross_entropy(model.train()(shapes[0]), shapes[2]).backward()
    optimizer.step()
    after = model.body.state_dict()
    assert all(torch.equal(after[k], v) for k, v in kept.items())


def test_frozen_stages_are_those_of_torchvision():
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    for trainable in (3, 1, 0):
        theirs = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=trainable).body
        ours = backbone("resnet18", frozen_stages=5 - trainable)
        learnt = {name for name, p in ours.net.named_parameters() if p.requires_grad}
        norms = {name for name in learnt if ".bn" in name or name.startswith("bn") or "downsample.1" in name}
        assert learnt - norms == {name for name, p in theirs.named_parameters() if p.requires_grad}


def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def step(model, shapes):
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1, weight_decay=0.1)
    loss_of(model.train(), shapes).backward()
    optimizer.step()


def test_frozen_norms_do_not_move_by_a_bit_and_the_rest_does(shapes):
    torch.manual_seed(0)
    model = small_detector(backbone(SMALL, frozen_norms=True))
    before = state(model)
    step(model, shapes)
    norms = {k for k in before if re.search(r"body.*(\bbn\d|downsample\.1)\.", k)}
    moved = {key for key, value in state(model).items() if not torch.equal(value, before[key])}
    assert norms and not norms & moved
    assert moved == before.keys() - norms


def test_norms_that_are_not_frozen_move(shapes):
    torch.manual_seed(0)
    model = small_detector(backbone(SMALL))
    before = state(model)
    step(model, shapes)
    assert all(not torch.equal(value, before[key]) for key, value in state(model).items())


def test_frozen_stages_do_not_move_by_a_bit_and_the_rest_does(shapes):
    torch.manual_seed(0)
    model = small_detector(backbone(SMALL, frozen_stages=2))
    before = state(model)
    step(model, shapes)
    still = {key for key, value in state(model).items() if torch.equal(value, before[key])}
    assert still == {k for k in before if re.match(r"backbone\.body\.net\.(conv1|bn1|layer1)\.", k)}


def test_evaluation_and_training_again_keep_what_is_frozen():
    body = backbone(SMALL, frozen_norms=True, frozen_stages=1)
    body.eval().train()
    assert not body.net.bn1.training and not body.net.conv1.training and body.net.layer2.training
    assert not any(m.training for m in body.net.modules() if isinstance(m, torch.nn.BatchNorm2d))


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_on_the_grid_of_their_strides(family):
    body = backbone(published(family)).eval()
    assert (body.strides, body.widths) == (survey(published(family)).strides, survey(published(family)).widths)
    last = body.strides[-1]
    with torch.inference_mode():
        maps = body(torch.zeros(1, 3, 75, 64 + last))
    height = -(-75 // last) * last
    for m, s, w in zip(maps, body.strides, body.widths, strict=True):
        assert m.shape == (1, w, height // s, (64 + last) // s)


@pytest.mark.parametrize("family", sorted(RAGGED))
def test_cells_of_ragged_maps_look_at_their_place(family):
    """The middle of what a cell depends on is less than a cell away from the cell, on both sides of the picture."""
    torch.manual_seed(0)
    size, body = 256, backbone(published(family)).eval()
    x = torch.randn(1, 3, size, size, requires_grad=True)
    for m, s in zip(body(x), body.strides, strict=True):
        for i in (m.shape[2] // 4, 3 * m.shape[2] // 4):
            (grad,) = torch.autograd.grad(m[0, :, i, i].square().sum(), x, retain_graph=True)
            for axis in (0, 1):
                weight = grad[0].abs().sum(0).sum(1 - axis)
                middle = (weight * (torch.arange(size) + 0.5)).sum() / weight.sum()
                assert abs(middle - (i + 0.5) * s) < s


def test_a_map_is_cut_or_repeated_evenly():
    x = torch.arange(4.0).view(1, 1, 1, 4)
    assert on_grid(x, 1, 7).flatten().tolist() == [0, 0, 1, 2, 3, 3, 3]
    assert on_grid(x, 3, 2)[0, 0].tolist() == [[1, 2]] * 3
    assert on_grid(x, 1, 4) is x


def test_a_module_is_copied_and_its_classifier_left_out():
    model = build(host("vgg", Layers()))
    before = state(model)
    body = backbone(model)
    torch.nn.init.zeros_(next(body.parameters()))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert body.net.state_dict().keys() == {k for k in before if not k.startswith("classifier")}


def test_weights_come_from_a_model_folder(tmp_path):
    torch.manual_seed(0)
    model = build(SMALL)
    p = Preprocess(resolution=64, resize=64, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    folder = tmp_path / "model"
    write_folder(folder, model_files(ModelCard(SMALL, ("a", "b", "c"), p, {}), model.state_dict()))
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}
    other = replace(SMALL, num_classes=7)
    for body in (backbone(folder), backbone(str(folder)), backbone(other, weights=folder)):
        assert (body.mean, body.std) == (p.mean, p.std)
        assert body.net.state_dict().keys() == own.keys()
        assert all(torch.equal(value, own[key]) for key, value in body.net.state_dict().items())
    net = detector(folder, 2)
    assert (tuple(net.transform.image_mean), tuple(net.transform.image_std)) == (p.mean, p.std)
    with pytest.raises(WeightsError):
        backbone("resnet18", weights=folder)
    with pytest.raises(ConfigError, match="leave weights out"):
        backbone(folder, weights=folder)


def test_a_named_variant_is_normalised_as_published_and_other_channels_are_averaged():
    name, facts = next((n, p) for n, p in FAMILIES["inception"].published.items() if p.mean == (0.5, 0.5, 0.5))
    assert backbone(name).mean == facts.mean
    grey = backbone(replace(SMALL, in_chans=1))
    assert grey.mean == pytest.approx(((0.485 + 0.456 + 0.406) / 3,))
    assert segmenter(grey, 2)(torch.rand(2, 1, 32, 32)).shape == (2, 2, 32, 32)


def test_what_can_not_be_a_backbone_is_refused():
    with pytest.raises(ConfigError, match="without config"):
        backbone(torch.nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="3 stages"):
        backbone(SMALL, frozen_stages=4)
    with pytest.raises(ConfigError, match="twice the one before"):
        survey(replace(SMALL, stages=(Stage(16, (16,), 4),)))
    with pytest.raises(ConfigError, match="lr above 0"):
        rate_groups(build(SMALL), 0.1, 1.5)
    with pytest.raises(ConfigError, match="did you mean resnet18"):
        backbone("resnet81")


def test_rates_of_resnet18_fall_from_the_classifier_to_the_stem():
    model = build(variant("resnet18"))
    groups = rate_groups(model, 0.5, 0.1, weight_decay=0.01)
    rates = {p: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    for name, p in model.named_parameters():
        distance = {"fc": 0, "layer4": 1, "layer3": 2, "layer2": 3, "layer1": 4, "conv1": 5, "bn1": 5}
        lr = 0.5 * 0.1 ** distance[name.split(".")[0]]
        assert rates[p] == (pytest.approx(lr), 0.01 if p.ndim > 1 else 0.0), name


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_one_rate_and_the_head_the_highest(family):
    model = build(published(family))
    groups = rate_groups(model, 1.0, 0.5)
    given = [p for g in groups for p in g["params"]]
    assert len(given) == len(set(given)) and set(given) == {p for p in model.parameters() if p.requires_grad}
    stages = len(survey(model.config).strides)
    assert {g["lr"] for g in groups} <= {0.5**d for d in range(stages + 1)}
    rates = {p: g["lr"] for g in groups for p in g["params"]}
    named = dict(model.named_parameters())
    assert all(rates[p] == 1.0 for name, p in named.items() if name.startswith(FAMILIES[family].head))
    assert rates[next(p for p in named.values() if p in rates)] == 0.5**stages  # the stem


def test_rates_reach_through_a_detector_and_leave_out_what_is_frozen():
    model = small_detector(backbone(SMALL, frozen_stages=1))
    rates = {p: g["lr"] for g in rate_groups(model, 1.0, 0.5) for p in g["params"]}
    expected = {"layer1": 0.25, "layer2": 0.5}
    for name, p in model.named_parameters():
        part = re.match(r"backbone\.body\.net\.(\w+)", name)
        if part and part[1] in ("conv1", "bn1"):
            assert p not in rates
        else:
            assert rates[p] == (expected[part[1]] if part else 1.0), name


def test_the_rates_follow_a_schedule_and_what_layers_ask_for():
    model = build(host("resnet", Layers(norm="bn_small_init")))
    optimizer = torch.optim.SGD(rate_groups(model, 0.1, 0.5))
    before = [g["lr"] for g in optimizer.param_groups]
    set_lr(optimizer, 0.05)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([lr / 2 for lr in before])
    gain = next(g for g in optimizer.param_groups if any(p is model.bn1.weight for p in g["params"]))
    assert gain["lr"] == pytest.approx(0.05 * 0.5**2 / 100)
