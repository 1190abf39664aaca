"""Backbones under torchvision's detection and segmentation heads: every family, frozen parts, rates, scores."""

import re
import runpy
import sys
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import RAGGED, host

from foveate.backbones.backbone import backbone, on_grid, rate_groups
from foveate.backbones.detection import average_precision, detector
from foveate.backbones.segmentation import mean_iou, segmenter
from foveate.config import replace
from foveate.data.preprocess import Preprocess
from foveate.data.read.shapes import scene
from foveate.errors import ConfigError, WeightsError
from foveate.files import write_folder
from foveate.layers import NORMS, Layers
from foveate.train.artefact import ModelCard, model_files
from foveate.train.optim import set_lr
from foveate.zoo import FAMILIES, build, variant
from foveate.zoo.families.resnet.network import ResNetConfig, Stage
from foveate.zoo.survey import survey

ROOT = Path(__file__).parents[2]
FEW = {
    "min_size": 64,
    "max_size": 64,
    "rpn_pre_nms_top_n_train": 100,
    "rpn_post_nms_top_n_train": 30,
    "rpn_pre_nms_top_n_test": 50,
    "rpn_post_nms_top_n_test": 20,
    "box_batch_size_per_image": 16,
    "box_score_thresh": 0.0,
}
SMALL = ResNetConfig((Stage(16, (16,), 2), Stage(32, (32,), 2)), stem_widths=(16,), pool="none", num_classes=3)


@pytest.fixture(scope="module")
def shapes():
    """(pictures from 0 to 1, targets of a detector, label maps) of four scenes."""
    scenes = [scene(0, i) for i in range(4)]
    pictures = torch.stack([torch.from_numpy(s.picture).permute(2, 0, 1) / 255 for s in scenes])
    targets = [{"boxes": torch.from_numpy(s.boxes), "labels": torch.from_numpy(s.labels) + 1} for s in scenes]
    return pictures, targets, torch.stack([torch.from_numpy(s.label_map) for s in scenes])


def small_detector(source):
    return detector(source, 3, width=16, hidden=32, anchor=4.0, settings=FEW)


def published(family):
    """The tiny host of a family in its own layers."""
    return host(family, next(iter(FAMILIES[family].variants.values())).layers)


def check_gradients(model, config):
    """All that the family learns is learnt; a few families have gains that never are."""
    fixed = {name for name, p in build(config).named_parameters() if not p.requires_grad}
    for name, p in model.named_parameters():
        if name.rpartition("body.net.")[2] in fixed:
            assert not p.requires_grad, name
        else:
            assert p.requires_grad and p.grad is not None and p.grad.isfinite().all(), name


def loss_of(model, shapes):
    pictures, targets, _ = shapes
    return torch.stack(list(model(list(pictures), targets).values())).sum()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_carries_a_detector(family, shapes):
    torch.manual_seed(0)
    model = small_detector(published(family))
    loss = loss_of(model, shapes)
    loss.backward()
    assert loss.isfinite()
    check_gradients(model, published(family))
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    with torch.inference_mode():
        found = model.eval()(list(shapes[0]))
    for one in found:
        assert len(one["boxes"]) > 0
        assert (one["boxes"][:, 2:] > one["boxes"][:, :2]).all()
        assert one["boxes"].min() >= 0 and one["boxes"].max() <= 64
        assert set(one["labels"].tolist()) <= {1, 2, 3}
        assert ((one["scores"] >= 0) & (one["scores"] <= 1)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_carries_a_segmenter(family, shapes):
    torch.manual_seed(0)
    model = segmenter(published(family), 4)
    for height, width in ((64, 64), (51, 60)):
        x, labels = shapes[0][:, :, :height, :width], shapes[2][:, :height, :width]
        y = model(x)
        assert y.shape == (4, 4, height, width)
        loss = F.cross_entropy(y, labels)
        assert loss.isfinite()
    loss.backward()
    check_gradients(model, published(family))


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


def test_faster_rcnn_on_resnet50_is_torchvisions():
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    settings = {"min_size": 64, "max_size": 160, "box_score_thresh": 0.0}
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4, **settings)
    ours = detector("resnet50", 3, settings=settings)
    ours.load_state_dict({k.replace(".body.", ".body.net."): v for k, v in theirs.state_dict().items()})
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.rand(3, *size, generator=generator) for size in ((64, 96), (90, 70))]
    targets = [{"boxes": torch.tensor([[5.0, 6, 40, 50]]), "labels": torch.tensor([k])} for k in (1, 3)]
    losses, found = [], []
    for model in (theirs, ours):
        torch.manual_seed(1)
        losses.append(model.train()(pictures, targets))
        with torch.inference_mode():
            found.append(model.eval()(pictures))
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
    for a, b in zip(*found, strict=True):
        assert len(a["boxes"]) > 10 and all(torch.equal(a[key], b[key]) for key in ("boxes", "labels", "scores"))


def test_the_head_on_the_last_map_is_torchvisions_fcn():
    from torchvision.models import resnet18
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.fcn import FCN, FCNHead

    torch.manual_seed(0)
    theirs = FCN(IntermediateLayerGetter(resnet18(), {"layer4": "out"}), FCNHead(512, 5)).eval()
    ours = segmenter("resnet18", 5, finest=32).eval()
    ours.body.net.load_state_dict(theirs.backbone.state_dict())
    ours.head.load_state_dict(theirs.classifier.state_dict())
    x = torch.rand(2, 3, 96, 64)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs((x - mean) / std)["out"], atol=1e-6)


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


def learn(model, loss, lr, steps):
    """The losses of some steps on the same pictures."""
    optimizer = torch.optim.AdamW(rate_groups(model, lr, 0.9))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        losses.append(loss())
        losses[-1].backward()
        optimizer.step()
    return torch.stack(losses).detach()


def test_a_detector_learns(shapes):
    torch.manual_seed(0)
    model = small_detector(SMALL)
    losses = learn(model, lambda: loss_of(model, shapes), 5e-3, 30)
    assert losses[-5:].mean() < 0.7 * losses[:5].mean()


def test_a_segmenter_learns(shapes):
    torch.manual_seed(0)
    model = segmenter(SMALL, 4, finest=4)
    losses = learn(model, lambda: F.cross_entropy(model(shapes[0]), shapes[2]), 1e-2, 30)
    assert losses[-1] < 0.3 * losses[0]
    with torch.inference_mode():
        assert mean_iou(model(shapes[0]).argmax(1), shapes[2], 4) > 0.4


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


def random_boxes(generator, n, scores):
    corner = 60 * torch.rand(n, 2, generator=generator)
    boxes = torch.cat([corner, corner + 10 + 30 * torch.rand(n, 2, generator=generator)], 1)
    made = {"boxes": boxes, "labels": torch.randint(1, 4, (n,), generator=generator)}
    return made | ({"scores": torch.rand(n, generator=generator)} if scores else {})


@pytest.mark.parametrize("iou", [0.5, 0.3])
def test_average_precision_is_torchmetrics(iou, monkeypatch):
    """torchmetrics' own form asks for pycocotools, which it uses for masks only: for boxes a stand-in will do."""
    from torchmetrics.detection import _mean_ap

    stand_in = types.ModuleType("pycocotools")
    stand_in.mask = types.ModuleType("pycocotools.mask")
    monkeypatch.setitem(sys.modules, "pycocotools", stand_in)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", stand_in.mask)

    generator = torch.Generator().manual_seed(0)
    targets = [random_boxes(generator, n, False) for n in (5, 0, 9, 3, 7, 6, 8, 4)]
    predictions = []
    for t in targets:  # near misses of the truth, and noise
        near = t["boxes"] + 4 * torch.randn(t["boxes"].shape, generator=generator)
        noise = random_boxes(generator, 6, True)
        boxes = torch.cat([near, near + 1, noise["boxes"]])
        labels = torch.cat([t["labels"], t["labels"], noise["labels"]])
        predictions.append({"boxes": boxes, "labels": labels, "scores": torch.rand(len(boxes), generator=generator)})
    monkeypatch.setattr(_mean_ap, "_PYCOCOTOOLS_AVAILABLE", True)
    metric = _mean_ap.MeanAveragePrecision(iou_thresholds=[iou], class_metrics=True)
    metric.update(predictions, targets)
    expected = metric.compute()
    ours = average_precision(predictions, targets, iou)
    assert 0.1 < expected["map"] < 0.9
    assert sum(ours.values()) / len(ours) == pytest.approx(expected["map"].item(), abs=1e-6)
    assert list(ours.values()) == pytest.approx(expected["map_per_class"].tolist(), abs=1e-6)


def test_average_precision_of_a_case_by_hand():
    """Class 1: hit, miss, hit; precision 1 up to recall 0.5 (51 of 101 recalls), then 2/3. Class 2: not found."""
    box = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]])
    target = {"boxes": box, "labels": torch.tensor([1, 1, 2])}
    found = {
        "boxes": torch.stack([box[0], box[0], box[1]]),  # the second finds what is taken
        "labels": torch.tensor([1, 1, 1]),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
    }
    result = average_precision([found], [target])
    assert result == {1: pytest.approx((51 + 50 * 2 / 3) / 101), 2: 0.0}
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    assert average_precision([nothing], [target]) == {1: 0.0, 2: 0.0}
    assert average_precision([target | {"scores": torch.ones(3)}], [target]) == {1: 1.0, 2: 1.0}


def test_mean_iou_is_torchmetrics():
    from torchmetrics.classification import MulticlassJaccardIndex

    generator = torch.Generator().manual_seed(0)
    predicted, target = (torch.randint(0, 4, (3, 9, 7), generator=generator) for _ in range(2))
    expected = MulticlassJaccardIndex(num_classes=4, average="macro")(predicted, target)
    assert mean_iou(predicted, target, 4) == pytest.approx(expected.item(), abs=1e-6)
    assert mean_iou(predicted, predicted, 9) == 1.0


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs" / "transfer.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(example, {})
    assert re.search(r"^AP at IoU 0\.5: \d\.\d\d$", capsys.readouterr().out, re.M)


def test_the_script_runs(monkeypatch, capsys):
    words = ["--steps", "2", "--pretrain", "0", "1", "--seeds", "0", "--test", "100", "--side", "32"]
    script = str(ROOT / "scripts" / "transfer")
    monkeypatch.setattr(sys, "argv", [script, *words, "--threads", str(torch.get_num_threads())])
    runpy.run_path(script, run_name="__main__")
    out = capsys.readouterr().out
    assert len(re.findall(r"^ +0 +[01] +[01]\.\d+ +[01]\.\d+ +[01]\.\d+ +\d+$", out, re.M)) == 2
    assert "detect, 1 against 0 steps" in out
    assert (ROOT / "scripts" / "transfer").stat().st_mode & 0o111
