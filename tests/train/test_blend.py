"""Points between the start and the end of a fine-tuning (WiSE-FT)."""

import pytest
import torch
from torch import nn

from foveate.data.preprocess import Preprocess
from foveate.train import blend as module
from foveate.train.blend import between, blend


def test_between_is_the_straight_line_and_keeps_counters():
    start = {"w": torch.tensor([0.0, 2.0]), "n": torch.tensor(3)}
    end = {"w": torch.tensor([1.0, 4.0]), "n": torch.tensor(9)}
    assert between(start, end, 0.25)["w"].tolist() == [0.25, 2.5]
    assert between(start, end, 0.25)["n"] == 9
    assert torch.equal(between(start, end, 1.0)["w"], end["w"])
    with pytest.raises(ValueError, match="names"):
        between({"v": start["w"]}, end, 0.5)


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ({1.0: (0.8, 0.9), 0.5: (0.9, 0.7), 0.7: (0.85, 0.1)}, 0.5),  # accuracy first: 1,000 pictures tell these apart
        ({1.0: (0.8, 0.9), 0.5: (0.9, 0.7), 0.7: (0.89, 0.1)}, 0.7),  # and not these, so the loss does
        ({1.0: (0.9, 0.9), 0.5: (0.9, 0.7), 0.7: (0.9, 0.8)}, 0.5),  # then the lower loss
        ({1.0: (0.9, 0.6), 0.5: (0.9, 0.7), 0.7: (0.2, 0.1)}, 1.0),
    ],
)
def test_the_best_point_on_validation_is_put_into_the_model(monkeypatch, scores, chosen):
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    start = {"weight": torch.zeros(1, 1)}

    def share_of(m):  # the weight is the share here
        return round(m.weight.item(), 6)

    monkeypatch.setattr(module, "predict_logits", lambda m, val, p: share_of(m))
    monkeypatch.setattr(module, "labels_of", lambda val: range(1000))
    monkeypatch.setattr(module, "TEMPERATURES", (1.0,))
    monkeypatch.setattr(module, "accuracy", lambda share, _: scores[share][0])
    monkeypatch.setattr(module, "cross_entropy", lambda share, _: scores[share][1])
    found = blend(model, start, (0.5, 0.7), None, Preprocess(), lambda share, _: scores[share][0])
    assert found == (chosen, *scores[chosen], {share: value for share, (value, _) in scores.items()})
    assert share_of(model) == chosen
