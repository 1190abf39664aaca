"""Names of torchvision and timm: each stands for a network of the same parameters."""

from collections import Counter

import pytest
import timm
import torch
import torchvision
from timm.models import _registry

from foveate.config import get_path
from foveate.errors import ConfigError
from foveate.zoo import build, create_model, list_models, variant, zoo_name
from foveate.zoo.aliases import ALIASES, TIMM, TORCHVISION
from foveate.zoo.catalogue import catalogue, entry
from foveate.zoo.meta import shapes_only

SAMPLE = (
    *("fbnetc_100", "nasnetalarge", "skresnext50_32x4d", "dm_nfnet_f0", "tf_efficientnet_b0", "tf_mixnet_s"),
    *("tf_mobilenetv3_small_minimal_100", "gluon_resnet50_v1s", "efficientnet_b2a", "gluon_senet154"),
    *("resnet50.a1_in1k", "densenet121.ra_in1k", "tf_efficientnet_b0.ns_jft_in1k", "mobilenetv3_large_100"),
)


def shapes(model):
    return Counter(tuple(p.shape) for p in model.parameters())


def ours(name):
    with shapes_only():
        return build(variant(name))


def test_every_alias_names_a_variant_and_hides_none():
    assert set(ALIASES.values()) <= set(list_models()) and not set(ALIASES) & set(list_models())


def test_every_alias_is_a_name_of_the_other_library():
    known = {*timm.list_models(), *_registry._deprecated_models}
    assert set(TIMM) <= known
    assert set(TORCHVISION) <= set(torchvision.models.list_models(module=torchvision.models))


@pytest.mark.parametrize("name", SAMPLE)
@pytest.mark.filterwarnings("ignore")
def test_a_name_of_timm_has_the_parameters_of_timm(name):
    with torch.device("meta"):
        theirs = timm.create_model(name.partition(".")[0])
    assert shapes(theirs) == shapes(ours(name))


@pytest.mark.parametrize("name", ["mobilenet_v2", "regnet_y_400mf", "regnet_x_400mf"])
def test_a_name_of_torchvision_has_the_parameters_of_torchvision(name):
    assert shapes(torchvision.models.get_model(name, weights=None)) == shapes(ours(name))


@pytest.mark.parametrize(
    ("name", "padding", "norm"),
    [
        ("tf_efficientnet_lite0.in1k", "same", "batch_norm(eps=0.001, momentum=0.01)"),
        ("efficientnet_b0.ra_in1k", "symmetric", "batch_norm"),
        ("mixnet_s.ft_in1k", "symmetric", "batch_norm"),
        ("mobilenetv3_large_100.ra_in1k", "symmetric", "batch_norm"),
        ("tf_mobilenetv3_large_100.in1k", "same", "batch_norm(eps=0.001, momentum=0.01)"),
    ],
)
def test_the_form_is_the_one_that_the_weights_were_trained_in(name, padding, norm):
    config = variant(name)
    assert get_path(config, "padding") == padding and config.layers.norm == norm


def test_aliases_serve_wherever_a_name_is_taken():
    assert create_model("mobilenet_v2", num_classes=3).config.num_classes == 3
    assert zoo_name("resnet50.a1_in1k") == "resnet50" and zoo_name("efficientnet_b0.ra_in1k").endswith(".ra_in1k")
    assert entry("mobilenet_v2") == entry("mobilenetv2_100") == catalogue("mobilenet_v2.tv_in1k")[0]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mobilenetv2", "mobilenet_v2"),
        ("resnet5O.a1_in1k", "resnet50"),
        ("tf_efficientnetlite0", "tf_efficientnet_lite0"),
    ],
)
def test_an_unknown_name_gives_near_ones(name, says):
    with pytest.raises(ConfigError, match=f'unknown model "{name}": did you mean .*{says}'):
        variant(name)
