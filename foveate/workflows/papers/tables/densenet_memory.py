"""The memory of a DenseNet's training by depth, with and without sharing."""

from foveate.cost.memory import training_memory
from foveate.cost.plan import Plan
from foveate.workflows.papers.small import slope
from foveate.workflows.papers.table import Context, Contrast, Found, Measurement, Published, Table
from foveate.zoo.families.densenet import DenseNetConfig, Stage

DEPTHS, GROWTH, BATCH = (22, 40, 58, 76), 12, 64
SAVED = "exponent without sharing - exponent with it"
LINEAR = "exponent with sharing - 1"


def net(depth: int, shared: bool) -> DenseNetConfig:
    """Three blocks of (depth - 4) / 3 layers of 3x3, as for CIFAR."""
    layers, width, stages = (depth - 4) // 3, 16, []
    for i in range(3):
        width += layers * GROWTH
        stages.append(Stage((GROWTH,) * layers, transition=width if i < 2 else None))
    return DenseNetConfig(
        tuple(stages), stem="cifar", stem_width=16, memory_efficient=shared, num_classes=10, resolution=32
    )


def measure(context: Context) -> list[Found]:
    """Exact: activations that a step keeps, counted on the meta device."""
    found = {}
    for shared in (False, True):
        kept = [training_memory(net(d, shared), Plan(), 32, BATCH).activation_bytes for d in DEPTHS]
        found[shared] = slope(DEPTHS, kept)
    saved, linear = found[False] - found[True], found[True] - 1
    note = f"depths {DEPTHS}, growth {GROWTH}; exponents {found[False]:.2f} and {found[True]:.2f}"
    return [Found(SAVED, (saved,), saved, saved, note), Found(LINEAR, (linear,), linear, linear)]


TABLE = Table(
    name="densenet_memory",
    seed_page="004",
    paper="Memory-Efficient Implementation of DenseNets",
    arxiv="1707.06990",
    claim="The memory of training grows with the square of the depth without sharing, linearly with it.",
    scale="DenseNet-BC up to 264 layers on one GPU; sharing takes 15 to 20 % more time",
    contrasts=(
        Contrast(SAVED, Published(1.0, "2 against 1", "arXiv:1707.06990, figure 1", "memory", "exponent")),
        Contrast(
            LINEAR,
            Published(0.0, "linear", "arXiv:1707.06990, figure 1", "memory", "exponent"),
            claim="same",
            margin=0.35,
        ),
    ),
    study=Measurement(measure, seeds=1),
    minutes=3.0,
    critique="kept concatenations are the square; a short net is still between the two powers",
)
