"""Our networks beside timm's or torchvision's: time of a forward pass and of a training step, in turn in one process.

    python scripts/benchmarks/zoo.py [NAME ...] [--repeats 15] [--threads 1]

Needs the extra dev. Both sides get the same weights' shapes, the same pictures, float32, channels-last where --nhwc is
given. Seconds are CPU seconds of the process; the ratio is the median of the pairs' ratios, ours / theirs.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

import foveate

# ours: (library, its name, resolution, batch)
PEERS = {
    "resnet50": ("torchvision", "resnet50", 160, 4),
    "densenet121": ("torchvision", "densenet121", 160, 4),
    "efficientnet_b0": ("timm", "tf_efficientnet_b0", 160, 4),
    "mixnet_s": ("timm", "tf_mixnet_s", 160, 4),
    "ghostnet_100": ("timm", "ghostnet_100", 160, 4),
    "inception_v3": ("torchvision", "inception_v3", 160, 4),
    "nfnet_f0": ("timm", "dm_nfnet_f0", 96, 4),
}


def peer(library: str, name: str) -> nn.Module:
    """The other side, with random weights."""
    if library == "timm":
        import timm

        return timm.create_model(name)
    import torchvision

    extra = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
    return torchvision.models.get_model(name, **extra)


def forward(model: nn.Module, x: torch.Tensor) -> None:
    """One prediction."""
    with torch.inference_mode():
        model.eval()(x)


def step(model: nn.Module, x: torch.Tensor) -> None:
    """Forward, loss, backward."""
    F.cross_entropy(model.train()(x), torch.zeros(len(x), dtype=torch.long)).backward()
    model.zero_grad(set_to_none=True)


def ratio(ours: nn.Module, theirs: nn.Module, x: torch.Tensor, work: Callable, repeats: int) -> tuple[float, float]:
    """(median of ours / theirs, our median milliseconds); the side that begins changes from pair to pair."""
    work(ours, x), work(theirs, x)
    ratios, own = [], []
    for i in range(repeats):
        spent = {}
        for model in (ours, theirs) if i % 2 else (theirs, ours):
            begun = time.process_time()
            work(model, x)
            spent[model] = time.process_time() - begun
        ratios.append(spent[ours] / spent[theirs])
        own.append(1000 * spent[ours])
    return statistics.median(ratios), statistics.median(own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--nhwc", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    memory = torch.channels_last if given.nhwc else torch.contiguous_format
    print("| network | peer | px, batch | forward ours / theirs | training step ours / theirs |\n|---|---|---|---|---|")
    for name in given.names or PEERS:
        library, theirs_name, size, batch = PEERS[name]
        ours = foveate.create_model(name).to(memory_format=memory)
        theirs = peer(library, theirs_name).to(memory_format=memory)
        x = torch.randn(batch, 3, size, size).contiguous(memory_format=memory)
        cells = [ratio(ours, theirs, x, work, given.repeats) for work in (forward, step)]
        text = " | ".join(f"{value:.3f} ({ms:.0f} ms)" for value, ms in cells)
        print(f"| `{name}` | {library} `{theirs_name}` | {size}, {batch} | {text} |", flush=True)
    print(f"torch {torch.__version__}, {given.threads} threads, medians of {given.repeats} pairs, CPU milliseconds")


if __name__ == "__main__":
    main()
