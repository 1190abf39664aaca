"""Adaptive gradient clipping against timm's, and on numbers."""

import copy

import pytest
import torch
from timm.utils.agc import adaptive_clip_grad
from trajectory import loss_of, tiny

from foveate.layers.ws_conv import ws_conv
from foveate.train.clipping import clip_adaptive, unit_norm


@pytest.mark.parametrize("ratio", [0.001, 0.01, 0.1, 10.0])
def test_it_clips_as_timms_does(ratio):
    ours = tiny()
    with torch.no_grad():
        ours.norm.weight.zero_()  # a norm of 0 counts as eps
        ours.conv.weight[0].zero_()
    theirs = copy.deepcopy(ours)
    for model in (ours, theirs):
        loss_of(model, 0).backward()
    untouched = [p.grad.clone() for p in ours.parameters()]
    clip_adaptive(ours.parameters(), ratio)
    adaptive_clip_grad(theirs.parameters(), ratio)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert float((p.grad - q.grad).abs().max()) < 1e-15
    same = [torch.equal(p.grad, g) for p, g in zip(ours.parameters(), untouched, strict=True)]
    assert not all(same) if ratio < 1 else any(same)


def test_units_are_clipped_one_by_one():
    w = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0]], dtype=torch.float64))
    w.grad = torch.tensor([[6.0, 8.0], [0.03, 0.04], [0.0, 1.0]], dtype=torch.float64)
    clip_adaptive([w], 0.1)  # largest norms: 0.5, 0.5 and 0.1 * 0.001
    assert w.grad.flatten().tolist() == pytest.approx([0.3, 0.4, 0.03, 0.04, 0.0, 1e-4], rel=1e-12)


def test_a_vector_is_one_unit_and_what_has_no_gradient_is_passed_over():
    b, none = torch.nn.Parameter(torch.tensor([3.0, 4.0])), torch.nn.Parameter(torch.ones(2))
    b.grad = torch.tensor([30.0, 40.0])
    clip_adaptive([b, none], 0.1)
    assert b.grad.tolist() == pytest.approx([0.3, 0.4])
    assert none.grad is None
    clip_adaptive([none], 0.1)


def test_the_shapes_of_unit_norms():
    assert unit_norm(torch.ones(8, 3, 2, 2)).shape == (8, 1, 1, 1)
    assert unit_norm(torch.ones(8, 3)).shape == (8, 1)
    assert unit_norm(torch.ones(8)).shape == unit_norm(torch.ones(())).shape == ()


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 1, 1), (1, 4, 1, 1), (1, 1, 4)])
def test_gains_are_one_unit_however_they_are_written(shape):
    gain = torch.nn.Parameter(torch.tensor([3.0, 0.0, 4.0, 0.0]).view(shape))
    gain.grad = torch.tensor([0.0, 30.0, 0.0, 40.0]).view(shape)
    clip_adaptive([gain], 0.1)  # 0.1 * 5 of 50, in one: channel by channel the zeros would hardly move
    assert gain.grad.flatten().tolist() == pytest.approx([0.0, 0.3, 0.0, 0.4])
    assert unit_norm(gain).ndim == 0


def test_a_standardised_convolution_is_clipped_by_filter_and_its_gain_as_one():
    conv = ws_conv(2, 3, 3)
    assert unit_norm(conv.weight).shape == (3, 1, 1, 1) and unit_norm(conv.gain).shape == ()
