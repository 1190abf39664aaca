"""DenseNet against published counts, torchvision, timm and pytorchcv."""

import pytest
import torch
from compare import check_gradients, difference, on_meta, picture, randomise, shapes, timm_on_meta, torchvision_on_meta
from torch import nn

from foveate.config import replace, set_path
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo.families.densenet import (
    PUBLISHED,
    VARIANTS,
    DenseNet,
    Stage,
    cifar,
    from_torchvision,
    imagenet,
    stages,
)

SMALL = replace(imagenet((2, 3, 2), k=6), num_classes=7)  # BC with the ImageNet stem
PLAIN = replace(cifar(13, 4), num_classes=5)  # three layers of one 3x3 in each block
BC = replace(cifar(16, 4, bc=True), num_classes=5)
KINDS = {"small": SMALL, "plain": PLAIN, "bc": BC}


@pytest.mark.parametrize("name", ["densenet121", "densenet161", "densenet169", "densenet201"])
def test_keys_their_order_and_shapes_are_those_of_torchvision(name):
    assert shapes(on_meta(VARIANTS[name])) == shapes(torchvision_on_meta(name))


@pytest.mark.parametrize("name", ["densenet121", "densenet161"])
def test_keys_of_timm_are_ours(name):
    assert shapes(on_meta(VARIANTS[name])) == shapes(timm_on_meta(name))


def test_keys_of_torchvisions_old_files_map_to_ours():
    """The files write norm.1 and conv.2 inside dense layers (torchvision's own loader renames them too)."""
    ours = list(on_meta(SMALL).state_dict())
    old = []
    for key in ours:
        for name in ("norm1", "norm2", "conv1", "conv2"):
            if ".denselayer" in key:
                key = key.replace(f".{name}.", f".{name[:-1]}.{name[-1]}.")
        old.append(key)
    assert "features.denseblock1.denselayer2.norm.2.running_var" in old
    assert [from_torchvision(key) for key in old] == ours
    assert [from_torchvision(key) for key in ours] == ours


@pytest.mark.parametrize("size", [(64, 64), (47, 70)])
def test_outputs_equal_torchvision(size):
    import torchvision

    theirs = torchvision.models.DenseNet(6, (2, 3, 2), 12, num_classes=7)
    assert difference(DenseNet(SMALL), theirs, lambda key: key, size=size) <= 1e-10


@pytest.mark.parametrize("size", [(64, 64), (47, 70)])
def test_outputs_equal_timm(size):
    from timm.models.densenet import DenseNet as Theirs

    theirs = Theirs(growth_rate=6, block_config=(2, 3, 2), num_classes=7)
    assert difference(DenseNet(SMALL), theirs, lambda key: key, size=size) <= 1e-10


@pytest.mark.parametrize("bottleneck", [True, False], ids=["bc", "plain"])
def test_outputs_equal_pytorchcv_on_cifar(bottleneck):
    """pytorchcv's plain nets begin with 2 k channels and halve them: the layers are right, so they are the oracle."""
    from pytorchcv.models.densenet_cifar import get_densenet_cifar

    theirs = get_densenet_cifar(num_classes=10, blocks=16, growth_rate=6, bottleneck=bottleneck)
    depths = (2, 2, 2) if bottleneck else (4, 4, 4)
    config = replace(cifar(16, 6, bc=True), stages=stages(depths, 6, 12, bottleneck=bottleneck))
    assert difference(DenseNet(config), theirs, size=(32, 32)) <= 1e-10


def test_plain_nets_pass_all_channels_and_bc_nets_half_of_them():
    for name, first, transitions, last in (
        ("densenet40_k12_cifar", 16, [160, 304], 448),
        ("densenet100_bc_cifar", 24, [108, 150], 342),
        ("densenet121", 64, [128, 256, 512], 1024),
    ):
        config = VARIANTS[name]
        assert config.stem_width == first
        assert [s.transition for s in config.stages[:-1]] == transitions
        assert on_meta(config).num_features == last


def test_a_layer_reads_the_maps_of_all_layers_before_it():
    """Layer 3 by hand: 3x3 of relu(norm(x, y1, y2)); the block gives x, y1, y2, y3 in this order."""
    block = randomise(DenseNet(PLAIN)).features.denseblock1
    x = picture(5, channels=16)
    with torch.no_grad():
        y = block(x)
        assert torch.equal(y[:, :16], x)
        norm, conv = block.denselayer3.norm1, block.denselayer3.conv1
        scaled = (y[:, :24] - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + 1e-5).sqrt()
        read = (scaled * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)).clamp(min=0)
        expected = nn.functional.conv2d(read, conv.weight, padding=1)
    assert (y[:, 24:28] - expected).abs().max() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["batch_norm", "none"])
def test_saving_memory_changes_neither_gradients_nor_statistics(kind, norm):
    config = set_path(KINDS[kind], "layers.norm", norm)
    torch.manual_seed(0)
    whole = DenseNet(config).double().train()
    saving = DenseNet(replace(config, memory_efficient=True)).double().train()
    saving.load_state_dict(whole.state_dict())
    x = picture(32, count=4)
    for _ in range(2):
        losses = [model(x).square().sum() for model in (whole, saving)]
        for loss in losses:
            loss.backward()
        assert torch.equal(*losses)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(whole.parameters(), saving.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), saving.buffers(), strict=True))


def test_saving_memory_keeps_less_for_the_backward_pass():
    """Counted: the elements that autograd keeps. What the checkpoints hold are the maps, which are shared."""

    def kept(model):
        tensors = {}

        def pack(tensor):
            tensors[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(torch.randn(2, 3, 32, 32)).sum()
        del loss
        return sum(tensors.values())

    torch.manual_seed(0)
    config = cifar(31, 8)
    whole, saving = (DenseNet(replace(config, memory_efficient=m)).train() for m in (False, True))
    assert kept(saving) < 0.5 * kept(whole)


def test_saving_memory_is_for_training_only():
    model = randomise(DenseNet(replace(SMALL, memory_efficient=True)))
    whole = DenseNet(SMALL).double().eval()
    whole.load_state_dict(model.state_dict())
    assert torch.equal(model(picture(40)), whole(picture(40)))
    with torch.no_grad():
        model.train()(picture(40))


@pytest.mark.parametrize(("kind", "drops"), [("bc", 14), ("plain", 11)])
def test_dropout_stands_behind_every_convolution_but_the_first(kind, drops):
    """Section 4.2. In each of 2 x 3 BC layers two convolutions, in each of 3 x 3 plain ones one; 2 transitions."""
    model = DenseNet(replace(KINDS[kind], dropout=0.2))
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.2] * drops
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == drops + 1


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("densenet121", [(64, 2), (256, 4), (512, 8), (1024, 16), (1024, 32)]),
        ("densenet100_bc_cifar", [(216, 1), (300, 2), (342, 4)]),
    ],
)
def test_feature_maps_are_one_a_stride_finest_first(name, maps):
    model = on_meta(VARIANTS[name])
    found = model.feature_maps(torch.empty(1, 3, 64, 64, device="meta"))
    assert [(m.shape[1], 64 // m.shape[2]) for m in found] == maps


@pytest.mark.parametrize("kind", KINDS)
def test_without_norms_activations_do_not_write_into_the_feature_maps(kind):
    model = randomise(DenseNet(set_path(KINDS[kind], "layers.norm", "none")))
    with torch.no_grad():
        maps, features = model.feature_maps(picture(32)), model.forward_features(picture(32))
    assert torch.equal(maps[-1], features)
    assert maps[-2].min() < 0  # the concatenation in front of the last transition: no activation has been there


def test_uneven_widths_of_a_pruned_net_build_and_run():
    config = set_path(set_path(BC, "stages.0.growth", (3, 9)), "stages.0.mid", (5, 1))
    config = set_path(config, "stages.1.transition", 3)
    model = on_meta(config)
    assert model.features.denseblock1.denselayer2.conv1.weight.shape == (1, 8 + 3, 1, 1)
    assert model.features.transition1.conv.weight.shape[1] == 8 + 3 + 9
    assert model(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 5)


def test_a_block_can_have_layers_of_its_own():
    config = set_path(BC, "stages.1.layers", Layers(norm="group_norm(groups=2)", act="silu", attn="eca"))
    parts = on_meta(config).features
    kinds = [
        (type(b.denselayer1.norm2), type(b.denselayer1.se).__name__) for b in (parts.denseblock1, parts.denseblock2)
    ]
    assert kinds == [(nn.BatchNorm2d, "Identity"), (nn.GroupNorm, "ECA")]
    assert isinstance(parts.transition2.act, nn.SiLU)
    assert isinstance(parts.norm5, nn.BatchNorm2d)


def test_convolutions_start_with_variance_two_over_fan_out():
    torch.manual_seed(0)
    model = DenseNet(cifar(22, 24, bc=True))
    layer = model.features.denseblock3.denselayer3
    assert layer.conv1.weight.std().item() == pytest.approx((2 / 96) ** 0.5, rel=0.03)
    assert layer.conv2.weight.std().item() == pytest.approx((2 / (9 * 24)) ** 0.5, rel=0.03)
    assert not model.classifier.bias.any()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    check_gradients(replace(KINDS[kind], dropout=0.2))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("stages", (), "stages"),
        ("stages.0.growth", (), "growth"),
        ("stages.0.mid", (8,), "mid has 1 values: expected none or one a layer, 2"),
        ("stages.0.transition", None, r"stages\.0\.transition = None: a width for all blocks but the last"),
        ("stages.2.transition", 8, r"stages\.2\.transition = 8"),
        ("stages", (Stage((1,) * 1024, transition=4), Stage((1,))), "1,025 layers: at most 1,024"),
        ("order", "post", "order"),
        ("stem", "deep", "stem"),
        ("dropout", -0.1, "dropout = -0.1"),
    ],
)
def test_a_config_that_can_not_be_is_refused(path, value, words):
    with pytest.raises(ConfigError, match=words):
        set_path(BC, path, value)


def test_every_variant_has_its_paper():
    assert PUBLISHED.keys() == VARIANTS.keys()
