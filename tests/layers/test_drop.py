"""Stochastic depth."""

import pytest
import torch

from foveate.errors import ConfigError
from foveate.layers.drop import DropPath


def dropped(rate, rescale=True, training=True):
    torch.manual_seed(0)
    return DropPath(rate, rescale).train(training)(torch.ones(4000, 2, 3, 3))


def test_each_picture_is_kept_or_dropped_as_a_whole():
    y = dropped(0.25).flatten(1)
    assert torch.equal(y.amin(1), y.amax(1))
    assert y.unique().tolist() == pytest.approx([0.0, 4 / 3])


def test_pictures_are_dropped_at_the_rate_and_the_mean_stays():
    assert (dropped(0.25)[:, 0, 0, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert dropped(0.25).mean().item() == pytest.approx(1.0, abs=0.03)


def test_without_rescaling_survivors_keep_their_size():
    assert set(dropped(0.25, rescale=False).unique().tolist()) == {0.0, 1.0}


def test_evaluation_passes_everything():
    assert dropped(0.9, training=False).eq(1).all()


def test_rate_one_drops_everything():
    assert dropped(1.0).eq(0).all()


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(ConfigError, match="rate"):
        DropPath(rate)
