"""Public weights as a table: addresses, licences, preprocessing, and the form that gives the publisher's outputs."""

import pytest
import timm
import torch
from compare import randomise

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo import build, create_model, list_models, variant
from foveate.zoo.hub import timm_preprocess
from foveate.zoo.sources import (
    OWN_WISHES,
    TIMM,
    TORCHVISION,
    edit_layers,
    form_for,
    known,
    known_preprocess,
    licence_of,
    public_weights,
    timm_form,
    timm_network,
    timm_tag,
)
from foveate.zoo.weights import fitting, load_weights

PUBLIC = public_weights()
TAGS = {name: timm_tag(p.address) for name, p in PUBLIC.items() if p.address.startswith(TIMM)}
# one of each form: TensorFlow's and timm's own padding and epsilon, other names, GELU, means that count padding
FORMS = ["tf_mobilenetv3_small_minimal_100", "mobilenetv3_small_100", "mnasnet_small", "efficientnet_lite0"]
FORMS += ["tf_efficientnet_lite0", "mixnet_s", "fbnetc_100", "regnetx_002", "ghostnet_100", "skresnet18"]
THOROUGH = ["dm_nfnet_f0", "nasnetalarge", "efficientnet_b4", "tf_efficientnet_b4", "mixnet_l", "mobilenetv3_large_100"]


def test_every_network_that_the_catalogue_has_weights_of_has_an_address():
    assert len(TAGS) == 98 and len(PUBLIC) == 134
    assert all(p.address.startswith((TIMM, TORCHVISION)) and p.licence and p.size_bytes > 0 for p in PUBLIC.values())
    assert PUBLIC["resnet18"].address == "torchvision:ResNet18_Weights.IMAGENET1K_V1"
    assert PUBLIC["nasnet_large"].address == "hf-hub:timm/nasnetalarge.tf_in1k"
    assert PUBLIC["regnety_1280"].address == "torchvision:RegNet_Y_128GF_Weights.IMAGENET1K_SWAG_LINEAR_V1"


def test_licences_are_those_of_the_publishers():
    for name, tag in TAGS.items():
        theirs = timm.get_pretrained_cfg(tag).license
        ours = PUBLIC[name].licence.lower()
        assert ours == theirs or name == "regnety_640", tag
    assert sorted(p.model for p in PUBLIC.values() if not p.commercial) == ["regnety_1280", "regnety_640"]
    assert licence_of("lite") == "Apache-2.0" and licence_of("hf-hub:org/name") == ""
    # of a tag that the catalogue does not have nothing is known: some of timm's are not for commercial use
    assert licence_of("hf-hub:timm/resnet18.fb_swsl_ig1b_ft_in1k") == ""
    assert known("hf-hub:timm/resnet18d.ra2_in1k@main").model == "resnet18d"


def test_preprocessing_is_that_of_the_publishers():
    for tag in TAGS.values():
        cfg = timm.get_pretrained_cfg(tag).to_dict()
        ours, theirs = known_preprocess(TIMM + tag), timm_preprocess({"pretrained_cfg": cfg})
        if tag.startswith("dm_nfnet"):  # named is the resolution of their training; published, that of their test
            assert ours["resolution"] == cfg["test_input_size"][-1]
            theirs |= {key: ours[key] for key in ("resolution", "resize")}
        assert ours == theirs, tag
    assert set(OWN_WISHES) <= {p.address for p in PUBLIC.values()} and known_preprocess("hf-hub:org/name") == {}


@pytest.mark.parametrize("name", [p.model for p in PUBLIC.values() if p.address.startswith(TORCHVISION)])
def test_torchvision_has_these_weights_and_prepares_pictures_like_this(name):
    from torchvision.models import get_weight

    said = known_preprocess(PUBLIC[name].address)
    preset = get_weight(PUBLIC[name].address.removeprefix(TORCHVISION)).transforms()
    assert [said["resolution"]] == preset.crop_size
    inside = name in ("googlenet", "inception_v3")  # these normalise a second time inside, which is left out here
    assert said["mean"] == ((0.5, 0.5, 0.5) if inside else tuple(preset.mean))
    assert [said["resize"]] == preset.resize_size and preset.interpolation.value == said["kernel"]


@pytest.mark.parametrize("theirs", [*FORMS, *(pytest.param(name, marks=pytest.mark.thorough) for name in THOROUGH)])
def test_a_name_of_timms_brings_the_form_that_gives_timms_outputs(theirs):
    built = {"bn_eps": 1e-3} if theirs == "fbnetc_100" else {}  # as timm builds it for weights
    reference = randomise(timm.create_model(theirs, **built))
    _, config = timm_network(f"{theirs}.some_tag")
    ours = build(config).double().eval()
    load_weights(ours, reference.state_dict())
    size = (160, 131) if theirs == "nasnetalarge" else (75, 64)
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        a, b = ours(x), reference(x)
    assert (a - b).abs().max() <= 1e-8 * max(1.0, b.abs().max().item())


@pytest.mark.thorough
def test_names_and_shapes_of_every_tag_fit():
    for name, tag in TAGS.items():
        if PUBLIC[name].size_bytes < 4 * 50e6:
            with torch.device("meta"):
                state, model = timm.create_model(tag).state_dict(), build(form_for(variant(name), TIMM + tag))
            assert fitting(model, state, allow_nan=True), tag


def test_every_tag_names_its_network():
    assert {name: timm_network(tag)[0] for name, tag in TAGS.items()} == {name: name for name in TAGS}


def test_forms_change_what_they_must_and_nothing_else():
    f0 = form_for(variant("nfnet_f0"), "hf-hub:timm/dm_nfnet_f0.dm_in1k@abc")
    assert f0.layers.act == "scaled(act='gelu')" and "add_eps" in f0.layers.conv
    assert form_for(variant("nfnet_f0"), "lite") == variant("nfnet_f0")
    assert form_for(variant("nasnet_large"), "hf-hub:timm/nasnetalarge.tf_in1k").count_padding
    for name in ("efficientnet_b0", "mixnet_s", "mobilenetv3_large_100"):
        assert timm_form(variant(name), f"tf_{name}") == variant(name)
        own = timm_form(variant(name), name)
        assert own.padding == "symmetric" and own.layers.norm == "batch_norm" and own.stages == variant(name).stages


def test_layers_are_edited_at_any_depth():
    base = variant("efficientnet_b0")
    special = Layers("batch_norm(eps=0.001, momentum=0.01)", "relu")
    stages = (replace(base.stages[0], layers=special), *base.stages[1:])
    own = timm_form(replace(base, stages=stages), "efficientnet_b0")
    assert own.stages[0].layers == Layers("batch_norm", "relu")
    assert edit_layers(base, lambda layers: layers) is base


@pytest.mark.parametrize("name", ["vit_base_patch16_224", "convnext_tiny", "resnet20_cifar", ""])
def test_what_is_no_network_of_the_zoo_is_refused_with_near_names(name):
    with pytest.raises(ConfigError, match="is no network of this zoo"):
        timm_network(name)


def test_create_model_takes_the_form_of_a_tag(monkeypatch):
    monkeypatch.setattr("foveate.zoo.weights.load_weights", lambda model, source, except_head: None)
    with torch.device("meta"):
        model = create_model("efficientnet_b0", weights="hf-hub:timm/efficientnet_b0.ra_in1k", num_classes=7)
    assert model.config.padding == "symmetric" and model.config.num_classes == 7
    assert "resnet18" in list_models()
