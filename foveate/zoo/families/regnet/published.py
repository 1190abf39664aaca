"""What is published of the RegNets: timm's accuracies for the authors' (pycls) weights, torchvision's, G-Ghost's."""

from foveate.zoo.family import Published

TITLE, ARXIV = "Designing Network Design Spaces", "2003.13678"
GHOST = "GhostNets on Heterogeneous Devices via Cheap Operations"
REPOSITORY = "github huawei-noah/Efficient-AI-Backbones, release g_ghost_regnet"

PYCLS = {  # timm's results file, weights NAME.pycls_in1k
    "regnetx_002": 68.758,
    "regnetx_004": 72.482,
    "regnetx_006": 73.904,
    "regnetx_008": 75.054,
    "regnetx_016": 76.936,
    "regnetx_032": 78.160,
    "regnetx_040": 78.486,
    "regnetx_064": 79.062,
    "regnetx_080": 79.214,
    "regnetx_120": 79.608,
    "regnetx_160": 79.844,
    "regnetx_320": 80.258,
    "regnety_002": 70.288,
    "regnety_004": 74.004,
    "regnety_006": 75.274,
    "regnety_008": 76.334,
    "regnety_016": 77.880,
    "regnety_032": 78.902,
    "regnety_040": 79.246,
    "regnety_064": 79.734,
    "regnety_080": 79.874,
    "regnety_120": 80.382,
    "regnety_160": 80.284,
    "regnety_320": 80.796,
}
TORCHVISION = {  # its first weights: class, top-1
    "regnetx_004_tv": ("RegNet_X_400MF", 72.834),
    "regnety_008_tv": ("RegNet_Y_800MF", 76.420),
    "regnety_080_tv": ("RegNet_Y_8GF", 80.032),
}
G_GHOST = {  # the authors' readme
    "002": None,
    "004": None,
    "006": None,
    "008": None,
    "016": None,
    "032": 77.8,
    "040": 78.6,
    "064": None,
    "080": 79.0,
    "120": None,
    "160": 79.9,
    "320": None,
}

PUBLISHED = {
    **{
        name: Published(TITLE, ARXIV, top1, "timm results csv", f"timm {name}.pycls_in1k", 256, 224, "bicubic")
        for name, top1 in PYCLS.items()
    },
    **{
        name: Published(TITLE, ARXIV, top1, "torchvision IMAGENET1K_V1", f"torchvision {weights}_Weights.IMAGENET1K_V1")
        for name, (weights, top1) in TORCHVISION.items()
    },
    "regnety_640": Published(
        TITLE, ARXIV, 83.924, "timm results csv", "timm regnety_640.seer_ft_in1k (SEER licence)", 384, 384, "bicubic"
    ),
    "regnety_1280": Published(
        TITLE,
        ARXIV,
        86.068,
        "torchvision IMAGENET1K_SWAG_LINEAR_V1",
        "torchvision RegNet_Y_128GF_Weights.IMAGENET1K_SWAG_LINEAR_V1 (CC BY-NC 4.0)",
        224,
        224,
        "bicubic",
    ),
    **{
        f"g_ghost_regnetx_{n}": Published(
            GHOST, "2201.03297", top1, "authors' readme" if top1 else "", REPOSITORY if top1 else ""
        )
        for n, top1 in G_GHOST.items()
    },
}
