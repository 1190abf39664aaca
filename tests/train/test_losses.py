"""Losses, smoothing and distillation, against torch and the papers' numbers."""

import math

import pytest
import torch
import torch.nn.functional as F

from foveate.config import make
from foveate.errors import ConfigError
from foveate.train.losses import LOSSES, bce, distillation, smooth

LOGITS = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 3, 4, 1])
ONE_HOT = F.one_hot(LABELS, 5).double()


def test_smoothing_over_all_classes_is_torchs():
    expected = F.cross_entropy(LOGITS, LABELS, label_smoothing=0.1)
    assert F.cross_entropy(LOGITS, smooth(ONE_HOT, 0.1, "all")) == pytest.approx(float(expected), abs=1e-14)


def test_smoothing_over_the_others_is_the_papers():
    q = smooth(F.one_hot(torch.tensor([3]), 1000).double(), 0.1, "others")[0]
    assert float(q[3]) == pytest.approx(0.9) and float(q[0]) == pytest.approx(0.1 / 999)
    assert float(q.sum()) == pytest.approx(1.0)
    gap = float(q[3].log() - q[0].log())  # of the logits at the optimum: log((K - 1)(1 - e) / e)
    assert gap == pytest.approx(math.log(999 * 0.9 / 0.1)) and round(gap, 1) == 9.1


def test_the_two_conventions_agree_at_the_stated_amounts():
    assert torch.allclose(smooth(ONE_HOT, 0.1, "others"), smooth(ONE_HOT, 0.1 * 5 / 4, "all"))


def test_rows_of_mixed_labels_still_sum_to_one():
    mixed = torch.lerp(ONE_HOT, ONE_HOT.roll(1, 0), 0.3)
    for spread in ("all", "others"):
        assert torch.allclose(smooth(mixed, 0.2, spread).sum(1), torch.ones(6, dtype=torch.float64))


def test_bce_is_the_mean_of_independent_sigmoids():
    mixed = torch.lerp(ONE_HOT, ONE_HOT.roll(1, 0), 0.3)
    p = LOGITS.sigmoid()
    expected = -(mixed * p.log() + (1 - mixed) * (1 - p).log())
    assert float(bce()(LOGITS, mixed)) == pytest.approx(float(expected.mean()))
    assert float(bce(sum_classes=True)(LOGITS, mixed)) == pytest.approx(float(expected.sum(1).mean()))
    hard = (mixed > 0.2).double()
    expected = F.binary_cross_entropy_with_logits(LOGITS, hard)
    assert float(bce(threshold=0.2)(LOGITS, mixed)) == pytest.approx(float(expected))
    with pytest.raises(ConfigError, match="threshold"):
        bce(threshold=1.0)


def test_distillation_is_the_divergence_which_a_student_like_its_teacher_has_none_of():
    teacher = LOGITS.flip(0) * 3
    soft = (teacher / 20).softmax(1)
    kl = F.kl_div((LOGITS / 20).log_softmax(1), soft, reduction="batchmean")
    assert float(distillation(LOGITS, teacher, 20.0)) == pytest.approx(float(400 * kl))
    for same in (LOGITS, LOGITS * 50, LOGITS + 7):  # logits are known up to a constant
        assert float(distillation(same, same, 3.0)) == 0.0
    assert float(distillation(LOGITS + 7, LOGITS, 3.0)) == pytest.approx(0, abs=1e-6)


def test_distillation_has_the_gradient_of_the_cross_entropy_with_a_teacher():
    teacher, temperature = LOGITS.flip(0) * 3, 4.0
    grads = []
    for term in (
        lambda z: distillation(z, teacher, temperature),
        lambda z: F.cross_entropy(z / temperature, (teacher / temperature).softmax(1)) * temperature**2,
    ):
        z = LOGITS.clone().requires_grad_()
        term(z).backward()
        grads.append(z.grad)
    torch.testing.assert_close(*grads)


def test_distillation_has_no_gradient_at_the_teacher():
    z = LOGITS.clone().requires_grad_()
    distillation(z, LOGITS, 4.0).backward()
    assert z.grad.abs().max() < 1e-12


@pytest.mark.parametrize("name", ["cross_entropy", "bce", "bce(sum_classes=true)"])
def test_a_picture_that_counts_twice_is_as_if_it_were_there_twice(name):
    measure = make(LOSSES, name.replace("true", "True"), "loss.name")
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.eye(4)[[0, 1, 2]]
    counted = measure(logits, targets, torch.tensor([1.0, 2.0, 1.0]))
    twice = measure(logits[[0, 1, 1, 2]], targets[[0, 1, 1, 2]])
    torch.testing.assert_close(3 * counted, 4 * twice)
    assert torch.equal(measure(logits, targets), measure(logits, targets, torch.ones(3)))
