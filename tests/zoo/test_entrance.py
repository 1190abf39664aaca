"""The input norm of any network: where it stands, what it does, and that networks with it live like others."""

import copy

import pytest
import torch
from onnx_file import check_logits
from tiny import TINY, side

from foveate.config import from_json, replace, to_json
from foveate.layers.bn_small_init import learning_rate_factors
from foveate.train.optim import parameter_groups
from foveate.train.recipe import Optim
from foveate.zoo import FAMILIES, build
from foveate.zoo.fold import can_fold


def two(family):
    """The tiny network of a family with the input norm and without, with the same weights."""
    config = replace(TINY[family], num_classes=3)
    torch.manual_seed(0)
    plain = build(config)
    normed = build(replace(config, input_norm=True))
    missing = normed.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing and all(key.startswith("input_norm.") for key in missing)
    return plain, normed


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_it_and_sees_the_normalised_picture(family):
    plain, normed = two(family)
    pixels = side(family, 32)
    x = torch.rand(4, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))
    mean, var = x.mean((0, 2, 3)).view(3, 1, 1), x.var((0, 2, 3), correction=0).view(3, 1, 1)
    seen = 0.058 * (x - mean) / (var + 1e-5).sqrt()
    normed.eval().input_norm.train()
    with torch.no_grad():
        expected = plain.eval()(seen)
        assert torch.allclose(normed(x), expected, atol=1e-4 * max(1.0, expected.abs().max().item()))
        before = normed.input_norm.num_batches_tracked.item()
        normed.feature_maps(x)
    assert normed.input_norm.num_batches_tracked.item() == before + 1  # once a pass


def test_a_copy_has_a_norm_of_its_own():
    _, normed = two("resnet")
    copied = copy.deepcopy(normed).eval()
    x = torch.rand(2, 3, 16, 16)
    before = copied(x)
    with torch.no_grad():
        normed.input_norm.weight.mul_(3)
    assert torch.equal(copied(x), before)
    assert not torch.allclose(normed.eval()(x), before)


def test_its_scale_is_learnt_at_a_hundredth_and_its_shift_not():
    _, normed = two("resnet")
    assert learning_rate_factors(normed)["input_norm.weight"] == 0.01
    groups = parameter_groups(normed, Optim(weight_decay=0.1), ("fc.",))
    (found,) = [g for g in groups if any(p is normed.input_norm.weight for p in g["params"])]
    assert (found["factor"], found["weight_decay"]) == (0.01, 0.0)
    normed(torch.rand(2, 3, 16, 16)).sum().backward()
    assert normed.input_norm.bias.grad is None and normed.input_norm.weight.grad is not None


def test_it_survives_json_is_not_folded_and_exports():
    config = replace(TINY["vgg"], input_norm=True, num_classes=3)
    assert from_json(type(config), to_json(config)) == config
    bare = replace(TINY["resnet"], input_norm=True)
    assert can_fold(TINY["resnet"]) and not can_fold(bare)
    model = build(config).eval()
    model.input_norm.running_var.uniform_(0.5, 1.5)
    check_logits(model, 32)
