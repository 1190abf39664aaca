"""The GoogLeNet family against published counts, torchvision, pytorchcv and the graph of ONNX's light Inception v1."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from compare import check_gradients, counts, difference, facts, on_meta, picture, randomise
from torch import nn

from foveate.config import from_json, replace, set_path, to_json
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo.families.googlenet.blocks import HalvingPool
from foveate.zoo.families.googlenet.network import (
    FAMILY,
    PUBLISHED,
    VARIANTS,
    Branches,
    GoogLeNet,
    GoogLeNetConfig,
    Stage,
)
from foveate.zoo.family import IMAGENET_MEAN, IMAGENET_STD
from foveate.zoo.weights import load_weights

FACTS = facts("googlenet")
TV, PAPER, BN = VARIANTS["googlenet"], VARIANTS["googlenet_2014"], VARIANTS["bn_inception"]
BIASED = replace(BN, layers=Layers(conv="conv2d_bias"))  # pytorchcv's form
# published nets that have a count but no name of their own here
UNNAMED = {
    "googlenet_aux": replace(TV, aux=True),
    "bn_inception_bias": BIASED,
    "bn_inception_576": set_path(set_path(BN, "stages.1.modules.2.branch4", 96), "stages.1.modules.3.branch4", 96),
    "se_bn_inception": replace(BN, layers=Layers(attn="se")),
}
TINY = GoogLeNetConfig(
    (
        Stage((Branches(4, (4, 8), (4, 4), 4, kernel=5), Branches(3, (2, 5), (4, 6), 7)), pool=3),
        Stage((Branches(0, (4, 6), (4, 4, 5), 0, stride=2), Branches(4, (4, 4), (4, 4, 4), 4, pool="avg"))),
    ),
    stem=(6, 8, 10),
    aux_after=("3b",),
    aux_widths=(3, 9),
    num_classes=5,
    resolution=32,
)


def torchvision_model(**options):
    import torchvision

    return torchvision.models.GoogLeNet(init_weights=False, **options)


def pytorchcv_model():
    from pytorchcv.model_provider import get_model

    model = get_model("bninception")
    model.features.final_pool = nn.AdaptiveAvgPool2d(1)  # theirs is fixed to the 7x7 map of 224 pixels
    return model


@pytest.mark.parametrize("name", UNNAMED)
def test_nets_without_a_name_have_the_published_parameters_and_macs(name):
    config, fact = UNNAMED[name], FACTS[name]
    assert config.resolution == fact["resolution"]
    assert counts(on_meta(config), fact["resolution"]) == (fact["params"], fact["macs"])


@pytest.mark.parametrize("size", [(64, 64), (75, 47)])
def test_torchvision_weights_load_by_name_and_give_the_same_outputs(size):
    theirs = torchvision_model(aux_logits=False)
    assert difference(GoogLeNet(TV), theirs, lambda key: key, size=size) <= 1e-10


def test_keys_and_their_order_are_those_of_torchvision_with_the_auxiliary_classifiers():
    with torch.device("meta"):
        theirs = torchvision_model().state_dict()
    ours = on_meta(replace(TV, aux=True)).state_dict()
    assert [(k, v.shape) for k, v in ours.items()] == [(k, v.shape) for k, v in theirs.items()]


def test_pictures_of_mean_and_std_one_half_replace_the_transform_inside_torchvisions_network():
    theirs, ours = randomise(torchvision_model(aux_logits=False, transform_input=True)), GoogLeNet(TV).double().eval()
    ours.load_state_dict(theirs.state_dict())
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def normalised(mean, std):
        return (pixels - pixels.new_tensor(mean).view(3, 1, 1)) / pixels.new_tensor(std).view(3, 1, 1)

    published = PUBLISHED["googlenet"]
    with torch.no_grad():
        a, b = ours(normalised(published.mean, published.std)), theirs(normalised(IMAGENET_MEAN, IMAGENET_STD))
    assert (a - b).abs().max() <= 1e-10 * max(1.0, b.abs().max().item())


def test_auxiliary_logits_are_those_of_torchvision_in_training():
    theirs = randomise(torchvision_model(dropout=0.0, dropout_aux=0.0)).train()
    ours = GoogLeNet(replace(TV, aux=True, dropout=0.0, aux_dropout=0.0)).double().train()
    ours.load_state_dict(theirs.state_dict())
    x = picture(96, 64)
    with torch.no_grad():
        logits, (first, second) = ours.forward_aux(x)
        expected = theirs(x)
    assert (first - second).abs().max() > 1e-3
    for a, b in ((logits, expected.logits), (first, expected.aux_logits1), (second, expected.aux_logits2)):
        assert (a - b).abs().max() <= 1e-10 * max(1.0, b.abs().max().item())


@pytest.mark.parametrize("size", [(64, 64), (96, 32)])
def test_bn_inception_gives_the_outputs_of_pytorchcv(size):
    assert difference(GoogLeNet(BIASED), pytorchcv_model(), size=size) <= 1e-10


def test_weights_of_pytorchcv_load_by_position_into_the_form_with_biases():
    theirs, ours = pytorchcv_model(), GoogLeNet(BIASED)
    ours.config = BIASED
    load_weights(ours, theirs.state_dict())
    a, b = ours.state_dict().values(), theirs.state_dict().values()
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def light_inception_v1():
    """The graph of the light model in the package onnx: Caffe's bvlc_googlenet, without its weights."""
    import onnx

    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return onnx.load(folder / "light_inception_v1.onnx").graph


def run(graph, values):
    """The last concatenation of the graph, in plain torch operations; values: its input and its weights by name."""
    from onnx.helper import get_attribute_value

    for node in graph.node:
        given = [values.get(name) for name in node.input]
        how = {a.name: get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Conv":
            y = F.conv2d(*given, stride=how["strides"], padding=how["pads"][:2])
        elif node.op_type == "Relu":
            y = given[0].clamp(min=0)
        elif node.op_type == "MaxPool":
            y = F.max_pool2d(given[0], how["kernel_shape"], how["strides"], how["pads"][:2])
        elif node.op_type == "Concat":
            last = y = torch.cat(given, how["axis"])
        elif node.op_type == "LRN":
            half, c = how["size"] // 2, given[0].shape[1]
            squares = F.pad(given[0].square(), (0, 0, 0, 0, half, half))
            total = sum(squares[:, i : i + c] for i in range(how["size"]))
            y = given[0] / (how["bias"] + round(how["alpha"], 9) / how["size"] * total) ** how["beta"]
        elif node.op_type == "ConstantOfShape":
            continue
        else:  # the head
            return last
        values[node.output[0]] = y


def test_the_paper_form_gives_the_features_of_caffes_graph():
    """The graph's pools round sizes down where Caffe rounds up; at 61 x 93 pixels both give the same sizes."""
    graph, ours = light_inception_v1(), randomise(GoogLeNet(PAPER))
    names = [name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]]
    weights = [t for key, t in ours.state_dict().items() if not key.startswith("fc.")]
    x = 30 * picture(61, 93, count=1)  # large enough for the local response norm to matter
    with torch.no_grad():
        expected = run(graph, {"data_0": x, **dict(zip(names, weights, strict=True))})
        features = ours.forward_features(x)
        without = GoogLeNet(replace(PAPER, lrn=False)).double()
        without.load_state_dict(ours.state_dict())
        other = without.forward_features(x)
    scale = max(1.0, expected.abs().max().item())
    assert features.shape == expected.shape == (1, 1024, 1, 2)
    assert (features - expected).abs().max() <= 1e-10 * scale
    assert (other - expected).abs().max() > 1e-3 * scale


def test_a_halving_pool_rounds_up_at_every_side_and_has_caffes_windows_at_even_ones():
    caffe = nn.MaxPool2d(3, 2, ceil_mode=True)
    for side in range(1, 13):
        x = picture(side, 8)
        pooled = HalvingPool()(x)
        assert pooled.shape[-2:] == F.conv2d(x, torch.zeros(1, 3, 3, 3).double(), stride=2, padding=1).shape[-2:]
        if side % 2 == 0:
            assert torch.equal(pooled, caffe(x))
        else:
            expected = [
                [x[..., max(r, 0) : r + 3, c : c + 3].amax((2, 3)) for c in (0, 2, 4, 6)]
                for r in range(-1, side - 1, 2)
            ]
            assert torch.equal(pooled, torch.stack([torch.stack(row, -1) for row in expected], -2))


def test_bn_inception_runs_at_sides_that_halve_to_odd_ones():
    model = GoogLeNet(replace(BN, num_classes=3)).eval()
    with torch.no_grad():
        assert model.forward_features(torch.zeros(1, 3, 81, 103)).shape == (1, 1024, 3, 4)


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("googlenet", [(64, 2), (192, 4), (480, 8), (832, 16), (1024, 32)]),
        ("googlenet_2014", [(64, 2), (192, 4), (480, 8), (832, 16), (1024, 32)]),
        ("bn_inception", [(64, 2), (192, 4), (320, 8), (608, 16), (1024, 32)]),
    ],
)
def test_feature_maps_are_one_a_stride_finest_first(name, maps):
    model, x = GoogLeNet(VARIANTS[name]).eval(), picture(64, 64, count=1).float()
    with torch.no_grad():
        found, features = model.feature_maps(x), model.forward_features(x)
    assert [(m.shape[1], 64 // m.shape[2]) for m in found] == maps
    assert torch.equal(found[-1], features)
    assert model.num_features == features.shape[1]


def test_auxiliary_classifiers_leave_forward_as_it_is():
    torch.manual_seed(0)
    model, plain = GoogLeNet(replace(TINY, aux=True)).eval(), GoogLeNet(TINY).eval()
    plain.load_state_dict({k: t for k, t in model.state_dict().items() if not k.startswith("aux")})
    x = picture(32, 32).float()
    with torch.no_grad():
        logits, (aux,) = model.forward_aux(x)
        assert torch.equal(logits, model(x))
        assert torch.equal(logits, plain(x))
        assert plain.forward_aux(x)[1] == []
    assert aux.shape == (2, 5)
    assert model.aux1.fc1.in_features == 16 * 3


def test_the_last_layers_of_the_auxiliary_classifiers_belong_to_the_head():
    shapes = [
        {k: t.shape for k, t in on_meta(replace(TV, aux=True, num_classes=n)).state_dict().items()} for n in (4, 7)
    ]
    assert {k for k in shapes[0] if shapes[0][k] != shapes[1][k]} == {k for k in shapes[0] if k.startswith(FAMILY.head)}


def test_gradients_reach_every_parameter_of_the_smallest_variant():
    check_gradients(replace(TV, num_classes=5), 64, batch=2)


@pytest.mark.parametrize("layers", [Layers("none", conv="conv2d_bias"), Layers("batch_norm", "prelu", "se")])
def test_gradients_reach_every_parameter_through_the_auxiliary_classifiers_too(layers):
    torch.manual_seed(0)
    model = GoogLeNet(replace(TINY, aux=True, lrn=True, layers=layers)).train()
    logits, aux = model.forward_aux(torch.randn(4, 3, 32, 32))
    (logits.square().sum() + 0.3 * sum(a.square().sum() for a in aux)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_paper_form_with_batch_norm_is_a_config_edit():
    config = replace(PAPER, layers=TV.layers, lrn=False)
    shapes = [{k: t.shape for k, t in on_meta(c).state_dict().items()} for c in (config, TV)]
    assert shapes[0].keys() == shapes[1].keys()
    assert {k for k in shapes[0] if shapes[0][k] != shapes[1][k]} == {
        k for k in shapes[0] if ".branch3.1.conv." in k
    }  # 5x5 for 3x3


def test_uneven_widths_of_a_pruned_net_build_run_and_survive_json():
    config = replace(TINY, layers=Layers(norm="group_norm(groups=2)"))
    for path, width in (("stem.1", 3), ("stages.0.modules.1.branch3.0", 1), ("stages.1.modules.0.branch3.1", 9)):
        config = set_path(config, path, width)
    config = set_path(config, "stages.1.layers", Layers(act="silu", attn="eca"))
    model = GoogLeNet(config).eval()
    assert model.conv2.conv.out_channels == 3
    assert [u.conv.out_channels for u in model.inception4a.branch3] == [4, 9, 5]
    assert model.num_features == 16
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    again = from_json(GoogLeNetConfig, to_json(config))
    assert again == config
    assert hash(again) == hash(config)


def test_a_stage_can_have_layers_of_its_own():
    model = GoogLeNet(set_path(TINY, "stages.1.layers", Layers("group_norm(groups=2)", "silu", "se")))
    kinds = [
        (type(m.branch2[0].bn), type(m.branch2[0].act), type(m.attn).__name__)
        for m in (model.inception3a, model.inception4a)
    ]
    assert kinds == [(nn.BatchNorm2d, nn.ReLU, "Identity"), (nn.GroupNorm, nn.SiLU, "SqueezeExcite")]


def test_a_module_of_stride_2_passes_its_pooled_input_through_behind_the_other_branches():
    torch.manual_seed(0)
    model, x = GoogLeNet(TINY).eval(), picture(8, 6).float()
    x = torch.cat([x] * 8, 1)[:, : 3 + 5 + 6 + 7]
    with torch.no_grad():
        y = model.inception4a(x)
    assert y.shape == (2, 6 + 5 + 21, 4, 3)
    assert torch.equal(y[:, 11:], HalvingPool()(x))


def test_initial_weights_are_caffes_and_leave_gates_alone():
    torch.manual_seed(0)
    model = GoogLeNet(replace(PAPER, layers=replace(PAPER.layers, attn="se")))
    conv, gate = model.inception5b.branch2[1].conv, model.inception5b.attn.fc1
    assert conv.weight.var().item() == pytest.approx(1 / (9 * 192), rel=0.01)
    assert conv.weight.abs().max().item() == pytest.approx((3 / (9 * 192)) ** 0.5, rel=1e-3)
    assert (conv.bias == 0.2).all()
    assert not model.fc.bias.any()
    assert gate.bias.unique().numel() > 1


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("stages", (), "stages"),
        ("stages.0.pool", 4, "pool"),
        ("stages.0.modules", (Branches(4, (4, 8), (4, 4), 4),) * 27, "modules"),
        ("stages.0.modules.0.kernel", 4, "kernel = 4: must be odd"),
        ("stages.0.modules.0.branch1", -1, "branch1"),
        ("stages.0.modules.0.branch2", (4, 0), "branch2"),
        ("stages.0.modules.0.branch3", (4,), "branch3"),
        ("stages.1.modules.0.pool", "avg", 'Branches.pool = "avg"'),
        ("stem", (6, 8), "stem"),
        ("dropout", 1.5, "dropout"),
    ],
)
def test_a_config_that_can_not_be_is_refused(path, value, word):
    with pytest.raises(ConfigError, match=word):
        set_path(TINY, path, value)


@pytest.mark.parametrize("places", [("4c",), ("3a", "3a")])
def test_auxiliary_classifiers_stand_behind_modules_that_are_there_and_one_behind_each(places):
    with pytest.raises(ConfigError, match=r"aux_after.*3a, 3b, 4a, 4b"):
        replace(TINY, aux=True, aux_after=places)


def test_a_checkpoint_with_auxiliary_classifiers_loads_into_a_model_without_them():
    state, ours = torchvision_model().state_dict(), GoogLeNet(TV)
    ours.config = TV
    load_weights(ours, state)
    assert all(torch.equal(t, state[key]) for key, t in ours.state_dict().items())
