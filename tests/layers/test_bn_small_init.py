"""The small start of batch norm: scales, the audit of learning rates, the norm of the input."""

import copy
import math

import numpy as np
import pytest
import torch
from fills import check_finite
from onnx_file import through_onnx
from torch import nn

from foveate.errors import ConfigError
from foveate.layers import NORMS, Layers
from foveate.layers.bn_small_init import SIGMA_RELU, SmallInitNorm, bn_small_init, input_norm, learning_rate_factors
from foveate.zoo import build
from foveate.zoo.families import resnet


@pytest.fixture
def net(monkeypatch):
    """A small ResNet with the norm at every site, behind the norm of its input."""
    monkeypatch.setitem(NORMS, "bn_small_init", bn_small_init)
    config = resnet.ResNetConfig(
        stages=(resnet.Stage(8, (8,), 1), resnet.Stage(16, (16,), 2)),
        block="basic",
        stem="cifar",
        pool="none",
        stem_widths=(8,),
        num_classes=3,
        layers=Layers(norm="bn_small_init"),
    )
    torch.manual_seed(0)
    return nn.Sequential(input_norm(), build(config))


def test_every_scale_starts_small_and_every_shift_at_zero(net):
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms[0] is net[0] and len(norms) > 5
    assert all(m.weight.eq(0.1).all() for m in norms[1:])
    assert torch.allclose(norms[0].weight, torch.tensor(0.058))
    assert all(m.bias.eq(0).all() for m in norms)
    assert math.sqrt(0.5 - 0.5 / math.pi) == pytest.approx(SIGMA_RELU, abs=5e-3)


def test_outputs_have_the_deviation_of_the_scale(net):
    """Of pictures from 0 to 1; a batch of 8."""
    outputs = {}
    for name, module in net.named_modules():
        if isinstance(module, SmallInitNorm):
            module.register_forward_hook(lambda m, _, y, name=name: outputs.update({name: (m, y.detach().clone())}))
    net(torch.rand(8, 3, 16, 16))
    assert len(outputs) > 5
    for name, (module, y) in outputs.items():
        assert torch.allclose(y.std((0, 2, 3), correction=0), module.weight, atol=1e-3), name
        assert y.mean((0, 2, 3)).abs().max() < 1e-5, name


def test_the_audit_of_the_learning_rates(net):
    """The authors' three groups: each trainable parameter once, the input's shift not at all, the ratio stays 100."""
    factors = learning_rate_factors(net)
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    assert "0.bias" not in trained and "0.bias" in dict(net.named_parameters())
    scales = {f"{name}.weight" for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert set(factors) == scales < set(trained)
    assert set(factors.values()) == {0.01}
    groups = [
        {"params": [p for n, p in trained.items() if n in scales], "lr": 0.1 * 0.01, "weight_decay": 0.0},
        {"params": [p for n, p in trained.items() if n.endswith("bias")], "lr": 0.1, "weight_decay": 0.0},
        {"params": [p for n, p in trained.items() if n not in scales and not n.endswith("bias")], "lr": 0.1},
    ]
    assert sum(len(g["params"]) for g in groups) == len(trained)
    assert all(p.ndim > 1 for p in groups[2]["params"])
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in range(7):
        net(torch.rand(4, 3, 8, 8)).sum().backward()
        optimizer.step()
        schedule.step()
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates[1] / rates[0] == pytest.approx(100) and rates[1] == rates[2]
    assert net[0].bias.eq(0).all()


def test_the_factors_survive_a_copy_and_name_a_lone_norm():
    assert learning_rate_factors(copy.deepcopy(bn_small_init(8, lr_divisor=10.0))) == {"weight": 0.1}
    assert learning_rate_factors(nn.BatchNorm2d(8)) == {}


def test_it_is_batch_norm_but_for_its_start():
    norm, plain = bn_small_init(8, scale=1.0).double(), nn.BatchNorm2d(8).double()
    x = torch.randn(4, 8, 3, 3, dtype=torch.float64)
    assert torch.equal(norm(x), plain(x))
    assert norm.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(norm.eval()(x), plain.eval()(x))
    small = bn_small_init(8).double()
    assert torch.allclose(small(x), 0.1 * nn.BatchNorm2d(8).double()(x), atol=1e-6)
    assert torch.autograd.gradcheck(small, x.requires_grad_())
    with torch.device("meta"):
        assert bn_small_init(8).weight.is_meta


@pytest.mark.parametrize("shape", [(4, 64, 8, 8), (1, 64, 2, 2), (1, 64, 1, 1), (2, 64, 1, 1), (4, 16, 1, 1)])
def test_small_batches_and_maps_train(shape):
    check_finite(bn_small_init(shape[1]), torch.randn(shape))


def test_one_value_a_channel_is_normalised_as_in_evaluation_and_not_remembered():
    norm = bn_small_init(8)
    norm(torch.randn(4, 8, 3, 3) + 1)
    before, x = {k: t.clone() for k, t in norm.state_dict().items()}, torch.randn(1, 8, 1, 1)
    assert torch.equal(norm(x), norm.eval()(x))
    assert all(torch.equal(t, before[k]) for k, t in norm.state_dict().items())


def test_it_exports_and_compiles_with_equal_outputs():
    torch.manual_seed(0)
    model, x = nn.Sequential(input_norm(), bn_small_init(3, scale=0.5)), torch.rand(3, 3, 5, 4)
    model(x)
    expected = model.eval()(x).detach()
    assert torch.equal(torch.compile(model, fullgraph=True, backend="eager")(x), expected)
    y = through_onnx(model, x)(x)
    assert np.abs(y - expected.numpy()).max() < 1e-5


def test_bfloat16_is_within_a_hundredth_of_float32():
    x = 3 * torch.randn(8, 16, 6, 6) + 1
    expected = bn_small_init(16)(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = bn_small_init(16)(x.bfloat16())
    assert (y.float() - expected).abs().max() < 0.01 * expected.abs().max()


@pytest.mark.parametrize(
    "options", [{"scale": 0.0}, {"scale": -0.1}, {"scale": 1.5}, {"lr_divisor": 0.5}, {"eps": -1.0}], ids=str
)
def test_options_that_can_not_be_are_refused(options):
    for make in (bn_small_init, input_norm):
        with pytest.raises(ConfigError, match=rf"bn_small_init\(.*{next(iter(options))}"):
            make(3, **options)
