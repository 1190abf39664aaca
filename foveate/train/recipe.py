"""Recipe: everything that a training run does, as a value. Stored in every run folder; RECIPES holds the named ones.

A field that holds a call ("lamb(beta2=0.99)") names an entry of a table and its options: OPTIMIZERS, SCHEDULES, LOSSES,
INITS, POLICIES. Shares are from 0 to 1; 0 switches a refinement off unless the field says otherwise.
"""

from typing import Annotated, Literal

from pydantic import Field

from foveate.config import Count, NonNegative, Positive, Probability, record

Share = Annotated[float, Field(gt=0.0, le=1.0)]
Edits = Annotated[tuple[str, ...], Field(max_length=64)]


@record
class Optim:
    """The optimiser and what is done to gradients. Weight decay acts on convolution and linear weights only."""

    name: str = "sgd"  # a call of OPTIMIZERS
    lr: Positive = 0.1  # peak learning rate
    lr_batch: Annotated[int, Field(ge=0, le=1_000_000)] = 0  # the batch that lr is for: the rate is lr * batch / this
    momentum: Probability = 0.9  # beta1 of the Adam family
    nesterov: bool = True  # SGD, LARS, Muon
    beta2: Probability = 0.999  # the Adam family
    weight_decay: NonNegative = 5e-4
    decay_all: bool = False  # norm gains and biases decay too
    clip_norm: NonNegative = 0.0  # largest global gradient norm
    agc: NonNegative = 0.0  # largest ratio of a unit's gradient norm to its weight norm, arXiv:2102.06171
    backbone: Positive = 1.0  # learning-rate factor of everything before the classifier (fine-tuning: below 1)
    stage_decay: Share = 1.0  # learning-rate factor a stage, counted from the classifier (arXiv:1801.06146 section 3.2)
    sam: NonNegative = 0.0  # rho of sharpness-aware minimisation, arXiv:2010.01412
    sam_every: Count = 1  # SAM at every n-th step
    lookahead: Annotated[int, Field(ge=0, le=100_000)] = 0  # steps between two moves of the slow weights
    lookahead_rate: Probability = 0.5  # how far they move, arXiv:1907.08610


@record
class Schedule:
    """Learning rate per step: linear warm-up from `start` of the peak, then the curve down to `final` of it."""

    kind: str = "cosine"  # a call of SCHEDULES
    warmup: NonNegative = 1.0  # epochs
    start: Probability = 0.0
    final: Probability = 0.0


@record
class Augment:
    """Random changes of a training batch, each a pure function of (seed, epoch, sample)."""

    crop: Probability = 0.0  # random resized crop: smallest share of the area, aspect 3/4 to 4/3
    shift: NonNegative = 0.0  # random translation, share of the side, reflected at the border (CIFAR: 4/32)
    flip: bool = True  # left-right, one in two
    alternate: bool = False  # a sample is mirrored in every other epoch, in turn, not by chance (arXiv:2404.00498)
    policy: str = "none"  # a call of POLICIES: "rand_augment(magnitude=9)", "trivial_augment"
    colour: Probability = 0.0  # brightness, contrast and saturation factors in [1 - colour, 1 + colour]
    lighting: NonNegative = 0.0  # deviation of the noise along the principal colours of ImageNet (0.1 in AlexNet)
    erase: Probability = 0.0  # chance that a random rectangle (2 to 33 % of the area) is erased
    erase_with: Literal["grey", "noise"] = "grey"
    cutout: Probability = 0.0  # side of a square that is always erased, share of the side (arXiv:1708.04552)
    repeats: Count = 1  # copies of a sample, changed differently, in an epoch of the same length (arXiv:1901.09335)


@record
class Mix:
    """Pictures of a batch mixed in pairs, with their labels; one weight lam ~ Beta(alpha, alpha) a batch."""

    mixup: NonNegative = 0.0  # alpha, arXiv:1710.09412
    cutmix: NonNegative = 0.0  # alpha, arXiv:1905.04899
    switch: Probability = 0.5  # chance of CutMix where both are on
    chance: Probability = 1.0  # of a batch to be mixed at all
    until: Probability = 1.0  # share of the training after which nothing is mixed any more


@record
class Loss:
    """What is minimised: the loss of the mixed and smoothed labels, plus the teacher's and the auxiliary heads'."""

    name: str = "cross_entropy"  # a call of LOSSES
    smoothing: Probability = 0.0
    # how much of it the label's own class keeps: "all": 1 - e + e/K (PyTorch); "others": 1 - e (arXiv:1812.01187)
    spread: Literal["all", "others"] = "all"
    aux: NonNegative | None = None  # weight of each auxiliary head, where the network has them; None: its paper's
    teacher: str = ""  # a model folder whose predictions are learned too (arXiv:1503.02531)
    temperature: Positive = 20.0
    distill: NonNegative = 1.0  # weight of the teacher's term, which holds temperature ** 2
    label_noise: Probability = 0.0  # share of training labels replaced by another class (robustness studies)
    noise_to: Literal["any", "next"] = "any"  # by which: each of the others alike; the next one (class-dependent noise)
    noise_pairs: Annotated[tuple[str, ...], Field(max_length=4096)] = ()  # "cat>dog": only these become only those


@record
class Recipe:
    """One training run. Lengths in epochs; resolution 0 means the model's own."""

    epochs: Count = 30
    batch: Annotated[int, Field(ge=1, le=1_000_000)] = 128  # of one step, over all processes and parts
    parts: Count = 1  # a batch is computed in this many parts, one after the other (gradient accumulation)
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    augment: Augment = Augment()
    mix: Mix = Mix()
    loss: Loss = Loss()
    # unequal classes: "weights": a picture's loss counts by the inverse size of its class; "draws": an epoch, as long
    # as ever, shows every class equally often (data/balance.py)
    balance: Literal["none", "weights", "draws"] = "none"
    metric: str = "accuracy"  # that chooses the best epoch: a name of METRICS (train/metric.py), or recall@CLASS
    init: Edits = ()  # calls of INITS, done in turn on what the network's own paper says: "zero_gamma", "gradinit"
    edits: Edits = ()  # changes of the network, such as "drop_path=0.05"; fields that a family lacks are passed over
    ema: Probability = 0.0  # decay of the weight average that is evaluated and saved
    ema_every: Count = 1  # steps from one update of the average to the next
    norm_batches: Annotated[int, Field(ge=0, le=4096)] = 0  # training batches that refresh the average's statistics
    freeze: Probability = 0.0  # share of the layers, counted from the input, that stay as they are
    evaluate_from: Probability = 0.0  # share of the epochs that pass before the first evaluation (short runs)
    # published weights: norms become part of the convolutions before training (zoo/fold.py); else as frozen_norms
    fold_norms: bool = False
    frozen_norms: bool = False  # running statistics of all norms stay as they are (small batches, fine-tuning)
    # fine-tuning: points tried between the start (0) and the best weights (1) when training is over (train/blend.py)
    blend: Annotated[tuple[Probability, ...], Field(max_length=16)] = ()
    resolution: int = 0  # training resolution in pixels; evaluation keeps the model's
    grow_from: Probability = 1.0  # progressive resizing: share of the resolution at the start, in multiples of 4 pixels
    grow_until: Probability = 0.8  # share of the training after which the full resolution is reached
    test_resolution: int = 0  # pixels in evaluation and prediction; 0: the model's
    test_crop: Probability = 0.0  # side of the centre crop, share of the resized picture's short side; 0: 7/8
    # "scaled": large JPEGs are decoded at a fraction of their size, in tests and prediction too; "cut": so, and random
    # crops are cut while pictures are read, again in every epoch, never kept in memory
    decode: Literal["exact", "scaled", "cut"] = "exact"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: what suits the network here (form.py), recorded
    layout: Literal["auto", "nchw", "nhwc"] = "auto"
    threads: Annotated[int, Field(ge=0, le=1024)] = (
        0  # CPU threads of training; 0: as form.py settles them; they are part of the arithmetic
    )
    skip_steps: Annotated[int, Field(ge=0, le=1000)] = 0  # steps in a row that may be passed over for a loss of NaN
    seed: int = 0
