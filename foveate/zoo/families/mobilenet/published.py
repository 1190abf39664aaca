"""What is published of the mobile nets: accuracies of the public weights, or of the authors where there are none.

timm's figures are those of its results file for ImageNet at the resolution given here.
"""

from foveate.config import replace
from foveate.zoo.family import HALF, Published

V1 = Published("MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", "1704.04861")
V2 = Published("MobileNetV2: Inverted Residuals and Linear Bottlenecks", "1801.04381")
V3 = Published("Searching for MobileNetV3", "1905.02244")
V4 = Published("MobileNetV4: Universal Models for the Mobile Ecosystem", "2404.10518")
FBNET = Published(
    "FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable Neural Architecture Search", "1812.03443"
)


def _timm(entry: Published, weights: str, top1: float, size: int = 224, crop: float = 0.875) -> Published:
    """Weights of timm, bicubic unless said; timm resizes the short side to size / crop."""
    entry = replace(entry, interpolation="bicubic", resize=int(size / crop), resolution=size)
    return replace(entry, top1=top1, source="timm results csv", weights=f"timm {weights}")


def _half(entry: Published) -> Published:
    """With mean and standard deviation 0.5."""
    return replace(entry, mean=HALF, std=HALF)


def _tf(name: str, top1: float) -> Published:
    """TensorFlow's weights as timm has them."""
    return replace(_half(_timm(V3, f"tf_{name}.in1k", top1)), interpolation="bilinear")


def _paper(width: str, top1: float) -> Published:
    """A narrow MobileNet v1, arXiv:1704.04861 table 6."""
    weights = f'pytorchcv mobilenet_{width}, with act="relu"'
    return replace(V1, top1=top1, source="paper, table 6", weights=weights)


def _slim(top1: float) -> Published:
    """A narrow MobileNetV2 of TF-slim; its checkpoints are TensorFlow's."""
    return replace(V2, top1=top1, source="TF-slim README")


PUBLISHED = {
    "mobilenetv1_025": _paper("wd4", 50.6),
    "mobilenetv1_050": _paper("wd2", 63.7),
    "mobilenetv1_075": _paper("w3d4", 68.4),
    "mobilenetv1_100": _half(_timm(V1, "mobilenetv1_100.ra4_e3600_r224_in1k", 75.388)),
    "mobilenetv1_100h": _half(_timm(V1, "mobilenetv1_100h.ra4_e3600_r224_in1k", 75.664)),
    "mobilenetv1_125": _half(_timm(V1, "mobilenetv1_125.ra4_e3600_r224_in1k", 76.920, crop=0.9)),
    "mobilenetv2_035": _slim(60.3),
    "mobilenetv2_050": _timm(V2, "mobilenetv2_050.lamb_in1k", 65.928),
    "mobilenetv2_075": _slim(69.8),
    "mobilenetv2_100": replace(
        V2,
        top1=71.878,
        source="torchvision IMAGENET1K_V1",
        weights="torchvision MobileNet_V2_Weights.IMAGENET1K_V1",
    ),
    "mobilenetv2_110d": _timm(V2, "mobilenetv2_110d.ra_in1k", 75.056),
    "mobilenetv2_120d": _timm(V2, "mobilenetv2_120d.ra_in1k", 77.300),
    "mobilenetv2_140": _timm(V2, "mobilenetv2_140.ra_in1k", 76.528),
    "mobilenetv3_large_075": _tf("mobilenetv3_large_075", 73.442),
    "mobilenetv3_large_100": _tf("mobilenetv3_large_100", 75.510),
    "mobilenetv3_large_minimal_100": _tf("mobilenetv3_large_minimal_100", 72.270),
    "mobilenetv3_small_050": _timm(V3, "mobilenetv3_small_050.lamb_in1k", 57.918),
    "mobilenetv3_small_075": _tf("mobilenetv3_small_075", 65.706),
    "mobilenetv3_small_100": _tf("mobilenetv3_small_100", 67.922),
    "mobilenetv3_small_minimal_100": _tf("mobilenetv3_small_minimal_100", 62.892),
    "mobilenet_v3_large": replace(
        V3,
        top1=74.042,
        source="torchvision IMAGENET1K_V1",
        weights="torchvision MobileNet_V3_Large_Weights.IMAGENET1K_V1",
    ),
    "mobilenet_v3_small": replace(
        V3,
        top1=67.668,
        source="torchvision IMAGENET1K_V1",
        weights="torchvision MobileNet_V3_Small_Weights.IMAGENET1K_V1",
    ),
    "mobilenetv4_conv_small_035": V4,
    "mobilenetv4_conv_small_050": _half(_timm(V4, "mobilenetv4_conv_small_050.e3000_r224_in1k", 64.778)),
    "mobilenetv4_conv_small": _timm(V4, "mobilenetv4_conv_small.e2400_r224_in1k", 73.756),
    "mobilenetv4_conv_medium": _timm(V4, "mobilenetv4_conv_medium.e500_r256_in1k", 79.916, 256, 0.95),
    "mobilenetv4_conv_large": _timm(V4, "mobilenetv4_conv_large.e600_r384_in1k", 82.974, 384, 0.95),
    "mobilenetv4_hybrid_medium": _timm(V4, "mobilenetv4_hybrid_medium.ix_e550_r256_in1k", 81.478, 256, 0.95),
    "mobilenetv4_hybrid_large": _timm(V4, "mobilenetv4_hybrid_large.ix_e600_r384_in1k", 83.996, 384, 0.95),
    "fbnet_a": replace(FBNET, top1=73.0, source="paper, table 3"),
    "fbnet_b": replace(FBNET, top1=74.1, source="paper, table 3"),
    "fbnet_c": replace(_timm(FBNET, "fbnetc_100.rmsp_in1k", 75.120), interpolation="bilinear"),
}
