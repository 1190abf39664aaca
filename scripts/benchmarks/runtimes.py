"""Every runtime and precision on this machine, as processor time over that of timm's eager float32 network.

    python scripts/benchmarks/runtimes.py [--models resnet50,mobilenetv3_large_100] [--only onnxruntime,openvino]
        [--rounds 30] [--threads 1]
    python scripts/benchmarks/runtimes.py --model FOLDER --data DATA    (a trained model, judged on real pictures)

Batch 1, 224 pixels unless the model folder says otherwise, all engines in turns in one process, in an order that is
drawn anew in each round: what else the machine does hits all alike. Needs the extras dev (timm) and openvino.
Without a model folder the weights are random and int8 is calibrated on generated pictures: times, not accuracies.
Prints a Markdown table; ratios are of median processor times on one thread, else of median wall times.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

import foveate
from foveate.data.preprocess import Preprocess, normalise
from foveate.deploy import compare as comparing
from foveate.deploy.compare import Comparison, Sample, compare, cost_ms, generated, pairs
from foveate.deploy.runtimes import RUNTIMES, Runtime
from foveate.deploy.subject import Engine, Subject


def timm_eager(name: str) -> Runtime:
    """timm's network of that name, as it is: contiguous float32, with the same normalisation in front."""
    import timm

    def prepare(subject: Subject, precision: str) -> Engine:
        net = timm.create_model(name, num_classes=len(subject.classes)).eval()
        p = subject.preprocess
        top = (subject.side - p.resolution) // 2

        def run(pictures: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                cut = pictures[:, top : top + p.resolution, top : top + p.resolution]
                logits: np.ndarray = net(normalise(torch.from_numpy(cut).permute(0, 3, 1, 2), p)).numpy()
            return logits

        size_bytes = sum(t.numel() * t.element_size() for t in net.state_dict().values())
        return Engine(run, size_bytes, f"timm {timm.__version__}")

    return Runtime(("fp32",), (), lambda precision, device: None, prepare)


def lively(name: str, classes: int) -> torch.nn.Module:
    """Random weights, with the statistics of its norms those of generated pictures: activations of ordinary size."""
    torch.manual_seed(0)
    model = foveate.create_model(name, num_classes=classes).train()
    x = torch.randn(8, 3, 224, 224)
    with torch.no_grad():
        for _ in range(10):
            model(x)
    return model.eval()


def told(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def table(compared: Comparison, base: str) -> str:
    by = {(m.engine, m.precision): m for m in compared.measured}
    unit = cost_ms(by[(base, "fp32")])
    judged = base != "timm"
    head = "| runtime | precision | ratio | spread | size, MB |" + (" accuracy, % | points lost |" if judged else "")
    rows = [head, "|---|---|---|---|---|" + ("---|---|" if judged else "")]
    for m in sorted(by.values(), key=cost_ms):
        row = f"| {m.runtime if m.engine != 'torch_compile' else 'torch.compile'} | {m.precision} "
        row += f"| {cost_ms(m) / unit:.3f} | {m.spread:.2f} | {m.size_bytes / 1e6:.1f} |"
        if judged and m.accuracy is not None:
            row += f" {100 * m.accuracy:.1f} | {100 * (m.drop or 0.0):+.1f} |"
        rows.append(row)
    m = next(iter(by.values()))
    rows.append(f"\n{m.device}, {m.threads} thread, batch {m.batch}, n = {m.n} each, in turns.")
    if compared.best is not None and judged:
        rows.append(f"Chosen: {compared.best.runtime} {compared.best.precision} ({compared.rule}).")
    rows += [f"Not measured: {u.engine} {u.precision}: {u.reason}." for u in compared.unavailable]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default="resnet50,mobilenetv3_large_100")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--only")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-drop", type=float, default=1.0, help="points")
    given = parser.parse_args()
    wanted = pairs(given.only.split(",") if given.only else None)
    if given.model is not None:
        from foveate.deploy.sample import labelled
        from foveate.train.artefact import load_model

        net, card = load_model(given.model)
        calibration, sample = labelled(given.data, card.classes, checked=10_000)
        share = given.max_drop / 100
        subject = Subject(
            net,
            card.preprocess,
            card.classes,
            given.threads,
            calibration=calibration,
            min_agreement=1 - share,
            told=told,
        )
        wanted = tuple(dict.fromkeys((("torch", "fp32"), *wanted)))
        made = compare(subject, sample, wanted, repeats=given.rounds, max_s=600, max_drop=share)
        print(f"\n## {given.model.name}, {sample.name}, n = {len(sample.pictures)}\n\n{table(made, 'torch')}")
        return
    for name in given.models.split(","):
        comparing.RUNTIMES = RUNTIMES | {"timm": timm_eager(name)}  # type: ignore[attr-defined]  # beside ours, in the same rounds
        subject = Subject(
            lively(name, 1000),
            Preprocess(),
            tuple(map(str, range(1000))),
            given.threads,
            calibration=generated(16),
            min_agreement=0.0,
            told=told,
        )
        few = Sample(generated(4), name="generated")
        made = compare(subject, few, (("timm", "fp32"), *wanted), repeats=given.rounds, max_s=600)
        print(f"\n## {name}\n\n{table(made, 'timm')}", flush=True)


if __name__ == "__main__":
    main()
