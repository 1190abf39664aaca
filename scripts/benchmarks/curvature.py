"""What curvature costs: CPU seconds and memory by pictures and Lanczos steps, and of `foveate analyse`'s part.

    python scripts/benchmarks/curvature.py [--model resnet18] [--side 64] [--pictures 512] [--limit 100] [--threads 1]

Random weights and random pictures: the cost does not depend on them. Printed: CPU seconds of a product of the Hessian
with a vector at four numbers of pictures, and the slope of its logarithm; of runs of 2, 4 and 8 steps at the smallest
number, and their slope; then the part itself under --limit seconds, with the most memory that the process held.
"""

import argparse
import resource
import time

import numpy as np
import torch
import torch.nn.functional as F

from foveate.analysis.lanczos import lanczos
from foveate.analysis.products import flat, hessian, trained
from foveate.data.preprocess import Preprocess
from foveate.train.recipe import Recipe
from foveate.workflows.analyse.parts import Clock, curvature
from foveate.workflows.analyse.subject import Subject
from foveate.zoo import create_model


def seconds(run) -> float:
    """CPU time of a call."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def slope(x: list[float], y: list[float]) -> float:
    """Of log y on log x: 1 is linear."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--limit", type=float, default=100.0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = create_model(given.model, num_classes=10).eval()
    pixels = torch.randint(0, 256, (given.pictures, 3, given.side, given.side), dtype=torch.uint8)
    labels = torch.randint(0, 10, (given.pictures,))
    like = flat(trained(model), trained(model)).detach()
    v = torch.randn(like.shape)

    def product(count: int):
        batches = zip((pixels[:count] / 255 - 0.5).split(64), labels[:count].split(64), strict=True)
        return hessian(model, batches, F.cross_entropy)

    product(8)(v)  # warm-up
    counts = [given.pictures // n for n in (32, 16, 8, 4)]
    spent = [seconds(lambda n=n: product(n)(v)) for n in counts]
    for n, s in zip(counts, spent, strict=True):
        print(f"product    {n:4} pictures  {s:6.2f} CPU s")
    print(f"           slope in pictures {slope(counts, spent):.2f}")
    steps = [2, 4, 8]
    spent = [seconds(lambda m=m: lanczos(product(counts[0]), v, m)) for m in steps]
    for m, s in zip(steps, spent, strict=True):
        print(f"Lanczos    {m:4} steps     {s:6.2f} CPU s ({counts[0]} pictures)")
    print(f"           slope in steps {slope(steps, spent):.2f}")
    subject = Subject(
        *(model, given.model, tuple("0123456789"), Preprocess(resolution=given.side, resize=given.side)),
        *((pixels, labels), (pixels, labels), "test", Recipe(batch=64), False, 0),
    )
    found = curvature(subject, Clock(given.limit, time.monotonic()))
    told = f"{found['batch']} of {given.pictures} pictures, {found['steps']} steps x {found['draws']} vectors"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"analyse    {found['cpu_seconds']:.0f} CPU s, {peak:.1f} GiB at most; {told}, {len(found['by_batch'])} batches"
    )


if __name__ == "__main__":
    main()
