"""A tiny network on digits that compressions begin with, the command as tests call it, and rows of steps."""

from foveate.cli import main
from foveate.data.preprocess import Preprocess
from foveate.train.recipe import Augment, Optim, Recipe
from foveate.zoo.families.resnet import network as resnet

P = Preprocess(resolution=8, resize=8, fit="squash")
STAGES = (resnet.Stage(8, (12,), 1), resnet.Stage(12, (16,), 2))
TINY = resnet.ResNetConfig(STAGES, stem="cifar", pool="none", stem_widths=(8,), num_classes=10, resolution=8)
RECIPE = Recipe(
    epochs=3,
    batch=64,
    optim=Optim(lr=0.1),
    augment=Augment(shift=0.1, flip=False),
    precision="fp32",
    layout="nchw",
    threads=1,
)


def call(capsys, *arguments):
    """(exit code, stdout, stderr) of a command in this process."""
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    return code, *capsys.readouterr()


def step_row(step, val, macs):
    return {"step": step, "val_accuracy": val, "macs": macs, "latency_ms": macs / 1e6, "run": f"steps/{step}"}
