"""Bag of tricks: what the training procedure alone is worth, and its steps one on top of the other."""

from foveate.workflows.papers.hosts import RESNET_SMALL
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

SOURCE = "arXiv:1812.01187, tables 4 and 6"
SETTING = "ImageNet, ResNet-50, 120 epochs"
BASE = ("batch=512", "optim.lr=0.2", "schedule.kind=step(every=@0.34)", "schedule.warmup=0", "optim.decay_all=true")
STEP1 = ("schedule.warmup=@0.08",)
STEP2 = (*STEP1, "model.zero_gamma=true")
STEP3 = (*STEP2, "optim.decay_all=false")
STEP4 = (*STEP3, "schedule.kind=cosine")
STEP5 = (*STEP4, "loss.smoothing=0.1", "loss.spread=others")
STEP6 = (*STEP5, "mix.mixup=0.2")
NAMES = ("step schedule", "+ warm-up", "+ zero gamma", "+ no bias decay", "+ cosine", "+ smoothing", "+ mixup")
GAINS = (0.76, 0.44, -0.34, 0.75, 0.40, 0.84)

TABLE = Table(
    name="bag_of_tricks",
    seed_page="001",
    paper="Bag of Tricks for Image Classification with CNNs",
    arxiv="1812.01187",
    claim="The training procedure alone lifts ResNet-50 by points, and every step of it helps.",
    scale="ImageNet, ResNet-50, batch 256 and 1,024, 120 epochs (200 with mixup), one run a row",
    contrasts=(
        versus("+ smoothing", "step schedule", Published(2.01, SETTING, SOURCE, "memory")),
        *(
            versus(NAMES[i + 1], NAMES[i], Published(gain, SETTING, SOURCE), "more" if gain > 0 else "same", main=False)
            for i, gain in enumerate(GAINS)
        ),
    ),
    study=Trainings(
        RESNET_SMALL,
        tuple(Arm(n, c) for n, c in zip(NAMES, ((), STEP1, STEP2, STEP3, STEP4, STEP5, STEP6), strict=True)),
        pictures=0,
        epochs=12,
        sd=0.2,
        changes=BASE,
    ),
    minutes=420.0,
    critique=(
        "several steps are inside ImageNet's noise of a run (0.1), order matters in a cumulative ladder, mixup needs"
        " long trainings; in 95 steps most of them hurt (docs/benchmarks.md)"
    ),
)
