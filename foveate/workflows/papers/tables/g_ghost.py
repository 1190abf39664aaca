"""Ghost stages: the time of a net whose stages reuse features, against its host and a narrower host."""

from foveate.config import replace
from foveate.cost.count import cost
from foveate.workflows.papers.small import forward_of, times_ms
from foveate.workflows.papers.table import Context, Contrast, Found, Measurement, Published, Table
from foveate.zoo import variant

NETS = {"host": "regnetx_008", "ghost": "g_ghost_regnetx_008", "narrow": "regnetx_004"}
TIME, EQUAL = "time of the ghost net / of its host - 1", "time of the ghost net / of a narrower host - 1"


def measure(context: Context) -> list[Found]:
    """Times in turn, one picture of 224 px."""
    configs = {k: replace(variant(n), resolution=224) for k, n in NETS.items()}
    times = times_ms({k: forward_of(c, 224) for k, c in configs.items()}, context.seeds)
    macs = {k: cost(c).macs for k, c in configs.items()}
    note = ", ".join(f"{NETS[k]} {macs[k]:,} MACs" for k in NETS)
    rounds = range(context.seeds)
    return [
        Found(TIME, tuple(times["ghost"][r] / times["host"][r] - 1 for r in rounds), note=note),
        Found(EQUAL, tuple(times["ghost"][r] / times["narrow"][r] - 1 for r in rounds)),
    ]


TABLE = Table(
    name="g_ghost",
    seed_page="003",
    paper="GhostNets on Heterogeneous Devices via Cheap Operations",
    arxiv="2201.03297",
    claim="Features shared within a stage make a net faster, not only smaller.",
    scale="GPU: G-Ghost RegNetX-3.2G 77.8 % at 1.8 G MACs; the claim is of GPU latency",
    contrasts=(
        Contrast(
            TIME,
            Published(None, "GPU latency, figure not retrieved", "arXiv:2201.03297", "memory", "ratio"),
            claim="less",
            effect=0.2,
        ),
        Contrast(
            EQUAL,
            Published(None, "a control that the paper lacks", "-", "expected", "ratio"),
            claim="less",
            effect=0.1,
            main=False,
        ),
    ),
    study=Measurement(measure),
    minutes=1.0,
    critique="the accuracy half (77.8 against 78.2 of the host in timm) needs ImageNet",
)
