"""What is published of the EfficientNets: the official accuracies, timm's weights and how they want pictures.

B0 to B5: base training of the official README; B6, B7: AutoAugment; B8: AdvProp; L2: Noisy Student. Lite: its README.
"""

from foveate.zoo.family import HALF, Published

TITLE, ARXIV = "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", "1905.11946"
OFFICIAL = "official README"


def _b(top1: float, weights: str, crop: float, size: int, source: str = OFFICIAL) -> Published:
    """A net of the paper; timm resizes the short side to size / crop."""
    return Published(TITLE, ARXIV, top1, source, f"timm {weights}", int(size / crop), size, "bicubic")


def _lite(top1: float, name: str, resize: int, size: int) -> Published:
    """A Lite net: no paper of its own, TensorFlow's blog and repository."""
    weights = f'"lite" (timm tf_{name}.in1k)' if name[-1] in "012" else f"timm tf_{name}.in1k (at another resolution)"
    return Published(TITLE, ARXIV, top1, "official README, float", weights, resize, size, "bicubic", HALF, HALF)


PUBLISHED = {
    "efficientnet_b0": _b(76.7, "tf_efficientnet_b0.in1k", 0.875, 224),
    "efficientnet_b1": _b(78.7, "tf_efficientnet_b1.in1k", 0.882, 240),
    "efficientnet_b2": _b(79.8, "tf_efficientnet_b2.in1k", 0.890, 260),
    "efficientnet_b3": _b(81.1, "tf_efficientnet_b3.in1k", 0.904, 300),
    "efficientnet_b4": _b(82.5, "tf_efficientnet_b4.in1k", 0.922, 380),
    "efficientnet_b5": _b(83.1, "tf_efficientnet_b5.in1k", 0.934, 456),
    "efficientnet_b6": _b(84.0, "tf_efficientnet_b6.aa_in1k", 0.942, 528, "official README, AutoAugment"),
    "efficientnet_b7": _b(84.3, "tf_efficientnet_b7.aa_in1k", 0.949, 600, "official README, AutoAugment"),
    "efficientnet_b8": _b(85.5, "tf_efficientnet_b8.ap_in1k", 0.954, 672, "official README, AdvProp"),
    "efficientnet_l2": _b(88.4, "tf_efficientnet_l2.ns_jft_in1k", 0.960, 800, "official README, Noisy Student, JFT"),
    "efficientnet_lite0": _lite(75.1, "efficientnet_lite0", 256, 224),
    "efficientnet_lite1": _lite(76.7, "efficientnet_lite1", 272, 240),
    "efficientnet_lite2": _lite(77.6, "efficientnet_lite2", 292, 260),
    "efficientnet_lite3": _lite(79.8, "efficientnet_lite3", 312, 280),
    "efficientnet_lite4": _lite(81.5, "efficientnet_lite4", 332, 300),
}
