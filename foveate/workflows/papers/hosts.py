"""The networks and settings that many tables share: small enough for a processor, large enough to scatter little.

Deviations over seeds of a paired difference, in points, as measured (docs/benchmarks.md) or planned: TINY 1.0 at 7,000
pictures and 3 epochs, SMALL 0.5 at 10,000 and 20, 0.2 at 50,000 and 10, FAST 0.15 at 50,000 and 5.
"""

from foveate.config import replace
from foveate.layers import Layers
from foveate.zoo.families.resnet.network import ResNetConfig
from foveate.zoo.families.resnet.network import cifar as cifar_resnet
from foveate.zoo.families.vgg import Stage, VGGConfig

# 8 layers of 8 to 32 channels, 3.2 M multiply-adds at 32 px; 8 layers of 32 to 128 channels, 50 M
RESNET_TINY: ResNetConfig = replace(cifar_resnet(1, (8, 16, 32)), stem_widths=(8,))
RESNET_SMALL: ResNetConfig = replace(cifar_resnet(1, (32, 64, 128)), stem_widths=(32,))
TINY_SD, SMALL_SD, FAST_SD = 1.0, 0.5, 0.15
TINY = ("batch=64", "optim.lr=0.05", "schedule.warmup=@0.15")  # over cifar_standard
SMALL = ("schedule.warmup=@0.05",)  # over cifar_standard
FAST = "airbench_medium_cifar"  # with the recipe cifar_fast


def vgg(widths: tuple[int, ...], layers: Layers | None = None) -> VGGConfig:
    """A VGG for 32 px: a convolution a width, a 2x2 maximum between them, the mean over positions, one linear layer."""
    stages = tuple(Stage((width,)) for width in widths)
    return VGGConfig(
        stages,
        last_pool=False,
        grid=1,
        hidden=(),
        dropout=0.0,
        layers=layers or Layers(),
        num_classes=10,
        resolution=32,
    )


VGG_TINY = vgg((16, 32, 64, 64))
VGG_SMALL = vgg((64, 128, 256, 256))
