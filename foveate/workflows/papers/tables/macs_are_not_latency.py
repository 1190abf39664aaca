"""Multiply-adds against measured time, over published networks."""

import math
from collections.abc import Sequence

from foveate.config import replace
from foveate.cost.count import cost
from foveate.workflows.papers.small import forward_of, times_ms
from foveate.workflows.papers.table import Context, Contrast, Found, Measurement, Published, Table
from foveate.zoo import variant

NETS = (
    *("mobilenetv1_050", "mobilenetv1_100", "mobilenetv2_100", "mobilenetv2_140", "mobilenet_v3_large"),
    *("mobilenet_v3_small", "shufflenet_g1_1x", "shufflenet_g3_1x", "shufflenet_g8_1x", "ghostnet_100", "ghostnet_130"),
    *("mnasnet_a1", "mnasnet_100", "mixnet_s", "mixnet_m", "efficientnet_b0", "efficientnet_lite0", "fbnet_c"),
    *("regnetx_002", "regnetx_004", "g_ghost_regnetx_002", "nasnet_mobile", "alexnet"),
)
QUICK = NETS[::3]
TAU, RATIO = "Kendall's tau of MACs and time - 1", "time of the slower of two nets of equal MACs / of the faster - 1"
NEAR = 0.10  # MACs that count as equal


def kendall(x: Sequence[float], y: Sequence[float]) -> float:
    """Share of pairs in the same order less that in the other."""
    signs = [(x[i] - x[j]) * (y[i] - y[j]) for i in range(len(x)) for j in range(i) if x[i] != x[j] and y[i] != y[j]]
    return sum(math.copysign(1.0, s) for s in signs) / max(1, len(signs))


def measure(context: Context) -> list[Found]:
    """Every round times all nets in turn; the pair of the ratio is chosen in the first round, and not judged by it."""
    names = QUICK if context.budget_s < 60 else NETS
    side = 224
    configs = {name: replace(variant(name), resolution=side) for name in names}
    macs = {name: cost(config).macs for name, config in configs.items()}
    times = times_ms({name: forward_of(config, side) for name, config in configs.items()}, context.seeds + 1)
    pairs = [(a, b) for a in names for b in names if a != b and abs(macs[a] / macs[b] - 1) < NEAR]
    slow, fast = max(pairs, key=lambda p: times[p[0]][0] / times[p[1]][0])
    taus = [kendall([macs[n] for n in names], [times[n][r] for n in names]) for r in range(1, context.seeds + 1)]
    ratios = [times[slow][r] / times[fast][r] for r in range(1, context.seeds + 1)]
    where = f"{len(names)} nets at {side} px, one picture, PyTorch on this {context.device}; the interval is of rounds"
    return [
        Found(TAU, tuple(t - 1 for t in taus), note=where),
        Found(RATIO, tuple(r - 1 for r in ratios), note=f"{slow} {macs[slow]:,} and {fast} {macs[fast]:,} MACs"),
    ]


TABLE = Table(
    name="macs_are_not_latency",
    seed_page="000, 002",
    paper="MnasNet: Platform-Aware Neural Architecture Search for Mobile",
    arxiv="1807.11626",
    claim="Multiply-adds are a poor stand-in for latency: nets of equal MACs differ by far in time.",
    scale="Pixel phone: MobileNet 575 M MACs 113 ms, NASNet-A 564 M 183 ms",
    contrasts=(
        Contrast(
            RATIO,
            Published(0.62, "MobileNet and NASNet-A, Pixel phone", "arXiv:1807.11626, section 1", "read", "ratio"),
        ),
        Contrast(
            TAU,
            Published(-0.25, "0.6 to 0.9 over a zoo", "-", "expected", "tau"),
            claim="less",
            main=False,
        ),
    ),
    study=Measurement(measure),
    minutes=5.0,
    critique="depends on the runtime: PyTorch pays for every small operation, a phone's runtime less",
)
