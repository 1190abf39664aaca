"""Recipe: everything that a training run does, as a value. Stored in every run folder; RECIPES holds the named ones."""

from typing import Annotated, Literal

from pydantic import Field

from foveate.config import Count, NonNegative, Positive, Probability, record


@record
class Optim:
    """The optimiser. Weight decay acts on convolution and linear weights only, never on norms and biases."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.1  # peak learning rate at this recipe's own batch size
    momentum: Probability = 0.9  # SGD
    nesterov: bool = True  # SGD
    beta2: Probability = 0.999  # AdamW; beta1 is `momentum`
    weight_decay: NonNegative = 5e-4
    clip_norm: NonNegative = 0.0  # largest global gradient norm; 0: off
    backbone: Positive = 1.0  # learning-rate factor of everything before the classifier (fine-tuning: below 1)


@record
class Schedule:
    """Learning rate per step: linear warm-up from 0, then the curve down to `final` times the peak."""

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: NonNegative = 1.0  # epochs
    final: Probability = 0.0


@record
class Augment:
    """Random changes of a training batch, each a pure function of (seed, epoch, sample)."""

    crop: Probability = 0.0  # random resized crop: smallest share of the area, aspect 3/4 to 4/3; 0: off
    shift: NonNegative = 0.0  # random translation, share of the side, reflected at the border (CIFAR: 4/32)
    flip: bool = True  # left-right, one in two
    colour: Probability = 0.0  # brightness, contrast and saturation factors in [1 - colour, 1 + colour]
    erase: Probability = 0.0  # chance that a random rectangle (2 to 20 % of the area) turns grey


@record
class Recipe:
    """One training run. Lengths in epochs; resolution 0 means the model's own."""

    epochs: Count = 30
    batch: Count = 128
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    augment: Augment = Augment()
    mixup: NonNegative = 0.0  # alpha of Beta(alpha, alpha), arXiv:1710.09412; 0: off
    smoothing: Probability = 0.0  # PyTorch's label-smoothing convention: 1 - e + e/K and e/K
    ema: Probability = 0.0  # decay per step of the weight average that is evaluated and saved; 0: off
    freeze: Probability = 0.0  # share of the layers, counted from the input, that stay as they are
    evaluate_from: Probability = 0.0  # share of the epochs that pass before the first evaluation (short runs)
    # published weights: norms become part of the convolutions before training (zoo/fold.py); else as frozen_norms
    fold_norms: bool = False
    frozen_norms: bool = False  # running statistics of all norms stay as they are (small batches, fine-tuning)
    # fine-tuning: points tried between the start (0) and the best weights (1) when training is over (train/blend.py)
    blend: Annotated[tuple[Probability, ...], Field(max_length=16)] = ()
    resolution: int = 0  # training resolution in pixels; evaluation keeps the model's
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: a three-step probe decides and the run records it
    layout: Literal["auto", "nchw", "nhwc"] = "auto"
    threads: Annotated[int, Field(ge=0, le=1024)] = (
        0  # CPU threads of training; 0: the probe decides; they are part of the arithmetic
    )
    seed: int = 0
