"""What is published of the GhostNets: timm's accuracies for the authors' weights, the papers' where there are none."""

from foveate.zoo.family import Published

TITLE1, ARXIV1 = "GhostNet: More Features from Cheap Operations", "1911.11907"
TITLE2, ARXIV2 = "GhostNetV2: Enhance Cheap Operation with Long-Range Attention", "2211.12905"
TITLE3, ARXIV3 = "GhostNetV3: Exploring the Training Strategies for Compact Models", "2404.11202"
TIMM = "timm results csv"


def _of(title: str, arxiv: str, top1: float | None = None, source: str = "", weights: str = "") -> Published:
    """timm resizes the short side to 256 for all of them, bicubic."""
    return Published(title, arxiv, top1, source, weights, interpolation="bicubic")


PUBLISHED = {
    "ghostnet_050": _of(TITLE1, ARXIV1, 66.2, "paper, table of ImageNet classification"),
    "ghostnet_100": _of(TITLE1, ARXIV1, 73.958, TIMM, "timm ghostnet_100.in1k"),
    "ghostnet_130": _of(TITLE1, ARXIV1, 75.7, "paper, abstract"),
    "ghostnetv2_100": _of(TITLE2, ARXIV2, 75.186, TIMM, "timm ghostnetv2_100.in1k"),
    "ghostnetv2_130": _of(TITLE2, ARXIV2, 76.746, TIMM, "timm ghostnetv2_130.in1k"),
    "ghostnetv2_160": _of(TITLE2, ARXIV2, 77.836, TIMM, "timm ghostnetv2_160.in1k"),
    "ghostnetv3_050": _of(TITLE3, ARXIV3),
    "ghostnetv3_100": _of(TITLE3, ARXIV3, 76.936, TIMM, "timm ghostnetv3_100.in1k"),
    "ghostnetv3_130": _of(TITLE3, ARXIV3, 79.1, "paper, abstract"),
    "ghostnetv3_160": _of(TITLE3, ARXIV3),
}
