"""What each plug-in layer costs: parameters, MACs, and time beside the plain layer of its slot. Markdown to stdout.

    python scripts/benchmarks/layers.py [--parts PART ...] [--repeats 11] [--threads 1]

Parts: norms, acts, attns, convs, pointwise, depthwise, growth, fusion.

Norms stand beside batch norm, activations beside relu (none of them in place), convolutions beside conv2d of the same
kernel and groups; a gate behind a 3x3 convolution beside that convolution alone. The two sides take turns in one
process; a ratio is the median over the pairs, with the quartiles; seconds are CPU seconds of the process. "forward":
evaluation mode without gradients. "step": training mode, forward and backward to the input and all parameters.
float32. Freed memory stays with the process, so that what is timed is not the kernel handing out pages.
growth: time of the non-local blocks against the number of pixels. fusion: IterNorm in evaluation as part of a
convolution.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from memory import keep_memory
from torch import nn

from foveate.cost.count import cost
from foveate.cost.latency import device_name
from foveate.errors import ConfigError
from foveate.layers import ACTS, ATTNS, CONVS, NORMS
from foveate.layers.iter_norm import IterNorm, fuse, fuse_behind

BATCH, SHAPES = 8, ((64, 28), (256, 14))  # channels, pixels a side
LEAST_S = 0.004  # a time is taken over as many calls as need this long
Make = Callable[[int], nn.Module]  # (channels) -> the layer, of as many channels in and out
Work = Callable[[], object]


def behind(gate: Callable[[int, int], nn.Module]) -> Make:
    """A 3x3 convolution with a gate behind it."""
    return lambda c: nn.Sequential(nn.Conv2d(c, c, 3, padding=1, bias=False), gate(c, c))


def as_wide(kernel: int, depthwise: bool = False) -> dict[str, Make]:
    """Every convolution unit, as wide as it reads."""

    def make(conv: Callable[..., nn.Module]) -> Make:
        return lambda c: conv(c, c, kernel, padding=kernel // 2, groups=c if depthwise else 1)

    return {name: make(conv) for name, conv in CONVS.items()}


SLOTS: dict[str, tuple[str, str, Mapping[str, Make]]] = {  # title, the one that the others stand beside, all
    "norms": ("Norms beside `batch_norm`", "batch_norm", NORMS),
    "acts": ("Activations beside `relu`", "relu", ACTS),
    "attns": ("Gates behind a 3x3 convolution beside it alone", "none", {n: behind(g) for n, g in ATTNS.items()}),
    "convs": ("3x3 convolutions beside `conv2d`", "conv2d", as_wide(3)),
    "pointwise": ("1x1 convolutions beside `conv2d`", "conv2d", as_wide(1)),
    "depthwise": ("3x3 depthwise convolutions beside `conv2d`", "conv2d", as_wide(3, depthwise=True)),
}


def made(make: Make, channels: int) -> nn.Module:
    """A layer that does not write into its input, always with the same weights."""
    torch.manual_seed(0)
    layer = make(channels)
    for module in layer.modules():
        if getattr(module, "inplace", None) is True:
            setattr(module, "inplace", False)  # noqa: B010  # nn.Module's own stub knows no bool attributes
    return layer


def forward(layer: nn.Module, x: torch.Tensor) -> Work:
    """One prediction."""
    layer.eval()

    @torch.inference_mode()
    def work() -> None:
        layer(x)

    return work


def step(layer: nn.Module, x: torch.Tensor) -> Work:
    """Forward in training mode, backward to the input and all parameters."""
    layer.train()
    x = x.clone().requires_grad_()
    wanted = [x, *layer.parameters()]
    grad = torch.randn_like(x)

    def work() -> None:
        torch.autograd.grad(layer(x), wanted, grad, allow_unused=True)

    return work


def timed(work: Work, count: int) -> float:
    """CPU seconds of one of `count` calls."""
    begun = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - begun) / count


def count_of(work: Work) -> int:
    """How many calls take LEAST_S."""
    work()
    return math.ceil(LEAST_S / max(timed(work, 3), 1e-9))


def ratios(one: Work, other: Work, repeats: int) -> list[float]:
    """one / other, pair by pair; the side that begins changes from pair to pair."""
    sides = [(one, count_of(one)), (other, count_of(other))]
    found = []
    for i in range(repeats):
        spent = {id(work): timed(work, count) for work, count in (sides if i % 2 else sides[::-1])}
        found.append(spent[id(one)] / spent[id(other)])
    return found


def said(found: Sequence[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(found, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def short(number: float) -> str:
    """A count in three digits or so: 1.23M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:g}"


def row(name: str, make: Make, plain: Make, repeats: int) -> str:
    """One line of a table of layers."""
    cells = []
    for channels, side in SHAPES:
        try:
            layer, other = made(make, channels), made(plain, channels)
        except ConfigError as error:
            cells.append(f"refused: {error} | | | ")
            continue
        counted, x = cost(layer, resolution=side, in_chans=channels), torch.randn(BATCH, channels, side, side)
        pairs = [said(ratios(work(layer, x), work(other, x), repeats)) for work in (forward, step)]
        cells.append(f"{counted.params:,} | {short(counted.macs)} | {' | '.join(pairs)}")
    return f"| `{name}` | {' | '.join(cells)} |"


def slot(name: str, repeats: int) -> None:
    """The table of a slot."""
    title, plain, table = SLOTS[name]
    heads = [f"C={c}, {s}x{s}: params | MACs | forward | step" for c, s in SHAPES]
    print(f"\n### {title}\n\n| layer | {' | '.join(heads)} |\n|{'---|' * (1 + 4 * len(SHAPES))}")
    for layer, make in table.items():
        print(row(layer, make, table[plain], repeats), flush=True)


GROWING = {  # sides so large that what grows fastest is what is measured, and that no cache holds it
    "nonlocal": (80, 96, 112, 128),
    "nonlocal_scaled": (128, 192, 256, 320, 384),
}


def growth(repeats: int, channels: int = 16) -> None:
    """Slopes of log time and log MACs against log pixels; the sizes take turns."""
    print(f"\n### Growth with pixels\n\n{channels} channels, one picture, forward.\n")
    print(
        "| block | pixels a side | CPU ms | MACs | slope of log time | slope of log MACs |\n|---|---|---|---|---|---|"
    )
    for name, sides in GROWING.items():
        torch.manual_seed(0)
        layer = ATTNS[name](channels, channels)
        works = [forward(layer, torch.randn(1, channels, side, side)) for side in sides]
        counts = [count_of(work) for work in works]
        both = list(zip(works, counts, strict=True))
        rounds = [[timed(*each) for each in both] for _ in range(repeats + 1)][1:]
        seconds = [statistics.median(each) for each in zip(*rounds, strict=True)]
        macs = [cost(layer, resolution=side, in_chans=channels).macs for side in sides]
        pixels = [math.log(side * side) for side in sides]
        slopes = [statistics.linear_regression(pixels, [math.log(t) for t in each]).slope for each in rounds]
        by_macs = statistics.linear_regression(pixels, [math.log(m) for m in macs]).slope
        lists = (sides, (f"{1000 * s:.3g}" for s in seconds), map(short, macs))
        cells = [", ".join(map(str, each)) for each in lists]
        print(f"| `{name}` | {' | '.join(cells)} | {said(slopes)} | {by_macs:.2f} |", flush=True)


def seasoned(norm: IterNorm, x: torch.Tensor) -> IterNorm:
    """A norm that has seen pictures."""
    with torch.no_grad():
        for _ in range(20):
            norm.train()(x)
    return norm.eval()


def fusion(repeats: int) -> None:
    """Evaluation of IterNorm and a convolution, apart and as one, beside the convolution alone."""
    print("\n### IterNorm in evaluation, beside the convolution alone\n")
    print("| IterNorm and convolution | C, pixels | apart | fused | the same twice |\n|---|---|---|---|---|")
    for kernel, order in ((1, "before"), (3, "before"), (1, "behind"), (3, "behind")):
        for channels, side in SHAPES:
            torch.manual_seed(0)
            x = torch.randn(BATCH, channels, side, side)
            norm = seasoned(IterNorm(channels), x + 1)
            conv, twin = (nn.Conv2d(channels, channels, kernel, padding=kernel // 2) for _ in range(2))
            apart = nn.Sequential(norm, conv) if order == "before" else nn.Sequential(conv, norm)
            fused = fuse(norm, conv) if order == "before" else fuse_behind(conv, norm)
            cells = [said(ratios(forward(m, x), forward(conv, x), repeats)) for m in (apart, fused, twin)]
            print(f"| {order} {kernel}x{kernel} | {channels}, {side}x{side} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    others = {"growth": growth, "fusion": fusion}
    parts = (*SLOTS, *others)
    parser.add_argument("--parts", nargs="*", choices=parts, default=parts)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_memory()
    print(f"torch {torch.__version__}, {device_name()}, {given.threads} threads, float32; batch {BATCH}, median")
    print(f"(quartiles) of {given.repeats} pairs, CPU seconds of the process.")
    for name in given.parts:
        if name in SLOTS:
            slot(name, given.repeats)
        else:
            others[name](given.repeats)


if __name__ == "__main__":
    main()
