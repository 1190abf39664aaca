"""Detectors: every family under Faster R-CNN, torchvision's numbers, average precision."""

import re
import runpy
import sys
import types
from pathlib import Path

import pytest
import torch
from heads import SMALL, check_gradients, learn, loss_of, published, small_detector

from foveate.backbones.detection import average_precision, detector
from foveate.zoo import FAMILIES

ROOT = Path(__file__).parents[2]


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


def test_a_detector_learns(shapes):
    torch.manual_seed(0)
    model = small_detector(SMALL)
    losses = learn(model, lambda: loss_of(model, shapes), 5e-3, 30)
    assert losses[-5:].mean() < 0.7 * losses[:5].mean()


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
