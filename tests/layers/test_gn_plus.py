"""GN+: golden values of the faithful form, its limits, batches of one, and the product form."""

import math

import numpy as np
import pytest
import torch
from fills import check_finite
from onnx_file import through_onnx
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.gn_plus import VARIANTS, GNPlus

F64 = torch.float64
FORMS = [(variant, faithful) for variant in VARIANTS for faithful in (False, True)]


def wave(*shape):
    """The deterministic fill of the golden values."""
    i = torch.arange(math.prod(shape), dtype=F64)
    return ((0.37 * i).sin() + 0.3 * (1.7 * i).cos()).reshape(shape)


def mixed(layer, mix):
    nn.init.constant_(layer.mix, mix)
    return layer.double()


@pytest.mark.parametrize(
    ("variant", "first", "squares"),
    [
        ("parallel", (0.56294117, 0.56582538, 0.67800807), 777.26582254),
        ("gn_first", (0.56336284, 0.56608317, 0.67957329), 777.30613813),
        ("bn_first", (1.01586422, 0.94885478, 1.12334040), 1035.43430958),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_golden_values(variant, first, squares, training):
    y = GNPlus(8, 2, variant, faithful=True).double().train(training)(wave(4, 8, 6, 6))
    assert y.flatten()[:3].tolist() == pytest.approx(first, rel=1e-6, abs=1e-8)
    assert y.square().sum().item() == pytest.approx(squares, rel=1e-9)


def test_golden_group_norm():
    y = GNPlus(8, 2, faithful=True).gn(wave(4, 8, 6, 6))
    assert y.flatten()[:3].tolist() == pytest.approx((0.35654724, 0.38759747, 0.47047131), abs=1e-8)
    assert y.square().sum().item() == pytest.approx(1143.96909867, rel=1e-9)


@pytest.mark.parametrize("faithful", [False, True])
def test_the_mix_leads_from_batch_norm_to_group_norm(faithful):
    x = 2 * wave(4, 8, 6, 6) + 1
    for variant in VARIANTS:
        layer = mixed(GNPlus(8, 2, variant, faithful=faithful), 60.0)
        inner = layer.bn(x) if variant == "bn_first" else x
        assert torch.allclose(layer(x), layer.gn(inner), atol=1e-12)
    parallel = mixed(GNPlus(8, 2, "parallel", faithful=faithful), -60.0)
    assert torch.allclose(parallel(x), parallel.bn(x), atol=1e-12)
    assert GNPlus(8).mix.sigmoid().item() == pytest.approx(0.7311, abs=1e-4)


@pytest.mark.parametrize("faithful", [False, True])
def test_each_group_of_each_picture_has_mean_zero(faithful):
    y = GNPlus(12, 3, faithful=faithful).gn(3 * wave(4, 12, 5, 7) + 2).unflatten(1, (3, -1))
    assert y.mean((2, 3, 4)).abs().max() < 1e-12
    assert y.var((2, 3, 4), correction=int(faithful)).sub(1).abs().max() < 1e-4


def test_the_product_form_is_torchs_two_norms():
    x = 2 * wave(4, 8, 6, 6) + 1
    group, batch = nn.GroupNorm(2, 8).double(), nn.BatchNorm2d(8).double()
    s = torch.tensor(1.0, dtype=F64).sigmoid()
    y = GNPlus(8, 2, "parallel").double()(x)
    assert torch.allclose(y, s * group(x) + (1 - s) * batch(x), atol=1e-12)
    y = GNPlus(8, 2, "gn_first").double()(x)
    assert torch.allclose(y, s * group(x) + (1 - s) * batch(group(x)), atol=1e-12)
    y = GNPlus(8, 2, "bn_first").double()(x)
    assert torch.allclose(y, s * group(batch(x)) + (1 - s) * batch(x), atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_evaluation_pictures_see_each_other_only_in_the_faithful_form(variant):
    x = wave(4, 8, 6, 6)
    layer, faithful = GNPlus(8, 2, variant).double(), GNPlus(8, 2, variant, faithful=True).double().eval()
    for _ in range(3):
        layer(x)
    before = {k: t.clone() for k, t in layer.eval().state_dict().items()}
    assert torch.allclose(layer(x)[1:2], layer(x[1:2]), atol=1e-12)
    assert all(torch.equal(t, before[k]) for k, t in layer.state_dict().items())
    assert not torch.allclose(faithful(x)[1:2], faithful(x[1:2]), atol=1e-2)


def test_parameters_and_state():
    assert sum(p.numel() for p in GNPlus(64).parameters()) == 2 * 64 + 1
    own = {"weight", "bias", "mix"}
    assert set(GNPlus(64).state_dict()) == own | {"running_mean", "running_var"}
    assert set(GNPlus(64, faithful=True).state_dict()) == own
    assert [GNPlus(c).groups for c in (64, 24, 7)] == [32, 8, 1]


@pytest.mark.parametrize(("variant", "faithful"), FORMS)
@pytest.mark.parametrize(
    "shape", [(4, 64, 8, 8), (1, 64, 2, 2), (1, 32, 1, 1), (2, 64, 1, 1), (4, 16, 1, 1), (3, 6, 1, 5)]
)
def test_small_batches_and_maps_train(variant, faithful, shape):
    for x in (torch.randn(shape), torch.zeros(shape)):  # a layer that is dead: no deviation at all
        check_finite(GNPlus(shape[1], variant=variant, faithful=faithful), x)


def test_a_batch_of_one():
    """Faithful: no deviation over the batch, so only the share of group norm is left."""
    x, s = wave(1, 8, 6, 6), torch.tensor(1.0, dtype=F64).sigmoid()
    layer = GNPlus(8, 2, faithful=True).double()
    assert torch.allclose(layer(x), s * layer.gn(x), atol=1e-12)
    product, x = GNPlus(8, 2).double(), wave(1, 8, 1, 1)
    for _ in range(2):
        product(wave(4, 8, 6, 6))
    expected = product.eval()(x)
    before = product.running_var.clone()
    assert torch.equal(product.train()(x), expected)
    assert torch.equal(product.running_var, before)


@pytest.mark.parametrize(("variant", "faithful"), FORMS)
def test_gradients(variant, faithful):
    layer = GNPlus(4, 2, variant, faithful=faithful).double()
    for p in layer.parameters():
        nn.init.normal_(p)
    x = torch.randn(3, 4, 3, 2, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradcheck(layer.eval(), x)


@pytest.mark.parametrize(("variant", "faithful"), FORMS)
def test_bfloat16_is_within_a_fiftieth_of_float32(variant, faithful):
    torch.manual_seed(0)
    x = 3 * torch.randn(8, 64, 6, 6) + 1
    expected = GNPlus(64, variant=variant, faithful=faithful)(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = GNPlus(64, variant=variant, faithful=faithful)(x.bfloat16())
    whole = GNPlus(64, variant=variant, faithful=faithful).bfloat16()(x.bfloat16())
    for made in (y, whole):
        assert made.dtype == torch.bfloat16
        assert (made.float() - expected).abs().max() < 0.02 * expected.abs().max()


def test_they_export_and_compile_with_equal_outputs():
    torch.manual_seed(0)
    model = nn.Sequential(*(GNPlus(12, 3, variant, faithful=faithful) for variant, faithful in FORMS))
    for p in model.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    x = torch.randn(3, 12, 5, 4)
    model(x)
    expected = model.eval()(x).detach()
    assert torch.equal(torch.compile(model, fullgraph=True, backend="eager")(x), expected)
    y = through_onnx(model, x)(x)
    assert np.abs(y - expected.numpy()).max() < 1e-4


@pytest.mark.parametrize(
    "options", [{"groups": 0}, {"variant": "first"}, {"eps": -1.0}, {"momentum": 1.1}], ids=lambda o: next(iter(o))
)
def test_options_that_can_not_be_are_refused(options):
    with pytest.raises(ConfigError, match=rf"gn_plus\(.*{next(iter(options))}"):
        GNPlus(8, **options)
