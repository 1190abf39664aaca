"""The GAN test bed: counts, spectral norms, golden scores, and a short training."""

import numpy as np
import pytest
import torch

from foveate.layers import Layers
from foveate.workflows.papers.gan.networks import Discriminator, Generator
from foveate.workflows.papers.gan.scores import fid, inception_score, kid
from foveate.workflows.papers.gan.training import GanPlan, run_gan


@pytest.mark.parametrize(("width", "params"), [(256, 4_276_739), (64, 368_771), (32, 126_019)])
def test_generators_have_the_counted_parameters(width, params):
    with torch.device("meta"):
        assert sum(p.numel() for p in Generator(width).parameters()) == params


@pytest.mark.parametrize(("width", "params"), [(128, 1_053_825), (64, 264_769), (32, 66_849)])
def test_discriminators_have_the_counted_parameters(width, params):
    assert sum(p.numel() for p in Discriminator(width).parameters()) == params


def test_scores_have_their_golden_values():
    draw = np.random.RandomState(0)
    a = torch.from_numpy(draw.randn(200, 8))
    b = torch.from_numpy(draw.randn(300, 8) * 1.5 + 0.25)
    assert fid(a, b) == pytest.approx(2.638952733889, rel=1e-9)
    assert kid(a, b) == pytest.approx(0.854069901572, rel=1e-9)
    rows = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.25, 0.25, 0.5]], dtype=torch.float64)
    assert inception_score(rows) == pytest.approx(1.26984061882, rel=1e-9)


def test_kernels_of_the_discriminator_have_norm_one_after_some_steps():
    torch.manual_seed(0)
    net = Discriminator(8).train()
    for _ in range(20):
        net(torch.randn(2, 3, 32, 32))
    for block in net.blocks:
        norm = torch.linalg.matrix_norm(block.conv1.weight.flatten(1), 2).item()
        assert norm == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("conv", ["conv2d", "gconv", "conv_norm"])
def test_a_short_training_moves_and_comes_again(conv):
    torch.manual_seed(0)
    real = torch.rand(32, 3, 32, 32) * 2 - 1
    plan = GanPlan(width=8, steps=2, batch=4, critic_steps=1, generator=Layers(conv=conv), seed=1)
    first, again = (run_gan(plan, real, lambda x: x.mean((2, 3)), samples=16, every=1) for _ in range(2))
    assert [row.step for row in first.rows] == [0, 1, 2]
    assert all(np.isfinite([row.fid, row.kid, row.loss_d, row.loss_g]).all() for row in first.rows)
    assert first.rows == again.rows
    assert first.sheet.shape == (16, 3, 32, 32) and torch.equal(first.sheet, again.sheet)
