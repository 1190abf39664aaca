"""Names under which torchvision and timm have an architecture of the zoo, as data: their name -> ours.

Names that are the same on both sides are not listed. A name of timm may carry a tag of weights ("resnet50.a1_in1k"):
it names the same architecture, in timm's form where the zoo's own is TensorFlow's. A test compares all with timm.
"""

import re
from collections.abc import Mapping

TORCHVISION: Mapping[str, str] = {
    "mobilenet_v2": "mobilenetv2_100",
    "regnet_x_400mf": "regnetx_004_tv",
    "regnet_x_800mf": "regnetx_008",
    "regnet_x_1_6gf": "regnetx_016",
    "regnet_x_3_2gf": "regnetx_032",
    "regnet_x_8gf": "regnetx_080",
    "regnet_x_16gf": "regnetx_160",
    "regnet_x_32gf": "regnetx_320",
    "regnet_y_400mf": "regnety_004",
    "regnet_y_800mf": "regnety_008_tv",
    "regnet_y_1_6gf": "regnety_016",
    "regnet_y_3_2gf": "regnety_032",
    "regnet_y_8gf": "regnety_080_tv",
    "regnet_y_16gf": "regnety_160",
    "regnet_y_32gf": "regnety_320",
    "regnet_y_128gf": "regnety_1280",
}

# what the zoo has in the form of TensorFlow (SAME padding, eps 1e-3) is tf_... in timm, weights with tags too
_TF = (
    *(f"efficientnet_b{n}" for n in range(9)),
    "efficientnet_l2",
    *(f"efficientnet_lite{n}" for n in range(5)),
    *(f"mixnet_{size}" for size in ("s", "m", "l")),
    *(f"mobilenetv3_{form}" for form in ("large_075", "large_100", "large_minimal_100")),
    *(f"mobilenetv3_{form}" for form in ("small_075", "small_100", "small_minimal_100")),
)

TIMM: Mapping[str, str] = {
    **{f"tf_{name}": name for name in _TF},
    **{f"dm_nfnet_f{n}": f"nfnet_f{n}" for n in range(7)},
    "fbnetc_100": "fbnet_c",
    "nasnetalarge": "nasnet_large",
    "skresnext50_32x4d": "sknet50",
    # names of earlier releases, which meant an architecture and its weights
    **{f"tf_efficientnet_b{n}_{kind}": f"efficientnet_b{n}" for n in range(8) for kind in ("ap", "ns")},
    "tf_efficientnet_b8_ap": "efficientnet_b8",
    "tf_efficientnet_l2_ns": "efficientnet_l2",
    "efficientnet_b2a": "efficientnet_b2",
    "efficientnet_b3a": "efficientnet_b3",
    **{f"tv_resnet{n}": f"resnet{n}" for n in (34, 50, 101, 152)},
    "tv_resnext50_32x4d": "resnext50_32x4d",
    "tv_densenet121": "densenet121",
    "ig_resnext101_32x8d": "resnext101_32x8d",
    **{f"{kind}_resnet{n}": f"resnet{n}" for kind in ("ssl", "swsl") for n in (18, 50)},
    **{
        f"{kind}_resnext{form}": f"resnext{form}"
        for kind in ("ssl", "swsl")
        for form in ("50_32x4d", "101_32x4d", "101_32x8d")
    },
    **{f"gluon_resnet{n}_v1b": f"resnet{n}" for n in (18, 34, 50, 101, 152)},
    **{f"gluon_resnet{n}_v1{form}": f"resnet{n}{form}" for n in (50, 101, 152) for form in "cds"},
    **{f"gluon_{name}": name for name in ("resnext50_32x4d", "resnext101_32x4d", "resnext101_64x4d")},
    **{f"gluon_{name}": name for name in ("seresnext50_32x4d", "seresnext101_32x4d", "senet154", "inception_v3")},
    "mobilenetv3_large_100_miil": "mobilenetv3_large_100",
    "tf_inception_v3": "inception_v3",
    "adv_inception_v3": "inception_v3",
    "ens_adv_inception_resnet_v2": "inception_resnet_v2",
}

ALIASES: Mapping[str, str] = {**TORCHVISION, **TIMM}

# the same network as timm has it without tf_: padding on both sides, eps 1e-5
SYMMETRIC = ("padding=symmetric", "layers.norm=batch_norm")
_TIMM_FORM = ("efficientnet_b2a", "efficientnet_b3a", "mobilenetv3_large_100_miil", "fbnetc_100")
_TAG = re.compile(r"[a-z0-9_]+")


def resolve(name: str, known: Mapping[str, object]) -> tuple[str, tuple[str, ...]] | None:
    """(name in the zoo, changes of its config as KEY=VALUE) of a name of torchvision or timm; None for any other.

    known: the zoo's own names.
    """
    base, dot, tag = name.partition(".")
    if dot and not _TAG.fullmatch(tag):
        return None
    ours = base if base in known else ALIASES.get(base)
    if ours is None or ours not in known:
        return None
    if base == "fbnetc_100":
        return ours, SYMMETRIC[1:]
    timms = base in _TIMM_FORM or (bool(dot) and base == ours)
    return ours, SYMMETRIC if timms and ours in _TF and not base.startswith("tf_") else ()
