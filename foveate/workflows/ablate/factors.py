"""Factors of an ablation: named refinements of training and of networks, each as the overrides that switch it on.

A factor as a user types it is one of
    mixup                     an entry of FACTORS with its published value
    mixup=0.5                 the same with another value
    optim.lr=0.05             any field of the recipe, of the network (model.stem=deep) or of preprocess
    layers.norm=iter_norm     short for model.layers.norm=iter_norm
    model=resnet18d           another network, recipe (recipe=baseline) or weights (weights=lite) in place of the base's
    views=shifts              another way to test (train/views.py): views of a picture averaged
    mixup+cutmix              several that are switched on together
and a list of them is separated by commas. Commas and plus signs within brackets belong to a value.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from foveate.config import near, override
from foveate.errors import ConfigError
from foveate.train.recipe import Recipe

WHOLE = ("model", "recipe", "weights", "views")  # keys beside the records: what is trained from what, how it is tested
ROOMS = ("model.", "preprocess.")  # paths that are not of the recipe


@dataclass(frozen=True)
class Factor:
    """A named refinement. changes: overrides "key=value"; "{}" in one stands for the value that a user may give."""

    text: str
    source: str  # where the value is published
    changes: tuple[str, ...]
    value: str = ""  # of "{}"; "": has to be given


@dataclass(frozen=True)
class Named:
    """A factor as it was typed, and all that it changes."""

    name: str
    changes: tuple[str, ...]


TRICKS = "Bag of Tricks, arXiv:1812.01187"
RSB = "ResNet strikes back, arXiv:2110.00476"
TORCHVISION = "torchvision's recipe of 2021"

FACTORS: Mapping[str, Factor] = {
    # efficient training (Bag of Tricks section 3)
    "linear_scaling": Factor("rate times batch / 256", f"{TRICKS} 3.1.1", ("optim.lr_batch={}",), "256"),
    "warmup": Factor("rate rises from 0 for 5 epochs", f"{TRICKS} 3.1.2", ("schedule.warmup={}",), "5"),
    "zero_gamma": Factor("every residual branch starts at zero", f"{TRICKS} 3.1.3", ("model.zero_gamma=true",)),
    "no_bias_decay": Factor("no decay of biases and norms", f"{TRICKS} 3.1.4", ("optim.decay_all=false",)),
    "fp16": Factor("half precision, dynamic loss scale", f"{TRICKS} 3.2; arXiv:1710.03740", ("precision=fp16",)),
    "bf16": Factor("bfloat16 arithmetic, float32 weights", "arXiv:1905.12322", ("precision=bf16",)),
    # the network (Bag of Tricks section 4)
    "resnet_b": Factor("stride on the 3x3", f"{TRICKS} 4.2", ("model.stride_on=3x3",)),
    "resnet_c": Factor("three 3x3 in place of the stem's 7x7", f"{TRICKS} 4.2", ("model.stem=deep",)),
    "resnet_d": Factor("average pool in the shortcut", f"{TRICKS} 4.2", ("model.shortcut=avg",)),
    "bn_init": Factor(
        "norms that start small, one of the picture too",
        "arXiv:2110.13989",
        ("model.layers.norm=bn_small_init(scale={})", "model.input_norm=true"),
        "0.1",
    ),
    "input_norm": Factor("a norm of the picture", "arXiv:2110.13989", ("model.input_norm=true",)),
    # refinements (Bag of Tricks section 5)
    "cosine": Factor("half a cosine down to 0", f"{TRICKS} 5.1; arXiv:1608.03983", ("schedule.kind=cosine",)),
    "smoothing": Factor(
        "label smoothing, own class 1 - e", f"{TRICKS} 5.2", ("loss.smoothing={}", "loss.spread=others"), "0.1"
    ),
    "distill": Factor("learn a teacher's predictions, T = 20", f"{TRICKS} 5.3", ("loss.teacher={}",)),
    "mixup": Factor("mixed pairs, Beta(0.2, 0.2)", f"{TRICKS} 5.4; arXiv:1710.09412", ("mix.mixup={}",), "0.2"),
    # schedules
    "step": Factor("a tenth of the rate every 30 epochs", "arXiv:1512.03385", ("schedule.kind=step(every={})",), "30"),
    "exponential": Factor("0.97 every 2.4 epochs", "EfficientNet, arXiv:1905.11946", ("schedule.kind=exponential",)),
    "one_cycle": Factor("up, then down", "arXiv:1708.07120", ("schedule.kind=one_cycle", "schedule.warmup=0")),
    "linear": Factor("a straight line down to 0", "Budgeted Training, arXiv:1905.04753", ("schedule.kind=linear",)),
    # pictures
    "cutmix": Factor("boxes of another picture, Beta(1, 1)", "arXiv:1905.04899", ("mix.cutmix={}",), "1.0"),
    "rand_augment": Factor("random operations, one strength", "arXiv:1909.13719", ("augment.policy=rand_augment",)),
    "trivial_augment": Factor("one operation, any strength", "arXiv:2103.10158", ("augment.policy=trivial_augment",)),
    "erase": Factor("a random box erased", f"arXiv:1708.04896; {TORCHVISION}", ("augment.erase={}",), "0.1"),
    "cutout": Factor("a square erased, half of the side", "arXiv:1708.04552", ("augment.cutout={}",), "0.5"),
    "repeats": Factor("copies of a picture in an epoch", f"arXiv:1901.09335; {RSB}", ("augment.repeats={}",), "3"),
    "alternating_flip": Factor("mirrored every other epoch", "arXiv:2404.00498", ("augment.alternate=true",)),
    "flip": Factor("mirrored by chance", "arXiv:1512.03385", ("augment.flip=true",)),
    "crop": Factor("random resized crops, 8 % and more", "arXiv:1409.4842", ("augment.crop={}",), "0.08"),
    "shift": Factor("moved by up to 4 of 32 pixels", "arXiv:1512.03385 section 4.2", ("augment.shift={}",), "0.125"),
    "colour": Factor("brightness, contrast, saturation", f"{TRICKS} 2.1", ("augment.colour={}",), "0.4"),
    "lighting": Factor("noise along the colours", f"{TRICKS} 2.1", ("augment.lighting={}",), "0.1"),
    "grow": Factor("progressive resizing from half the side", "Composer", ("grow_from={}", "grow_until=0.8"), "0.5"),
    "fixres": Factor("train at fewer pixels than test", "arXiv:1906.06423", ("resolution={}",)),
    "tta": Factor("mirrored views averaged in testing", "arXiv:1409.1556", ("views={}",), "mirror"),
    # optimisers with the rates of their papers or of the recipe named
    "adamw": Factor(
        "AdamW", "arXiv:1711.05101", ("optim.name=adamw", "optim.lr={}", "optim.weight_decay=0.05"), "0.001"
    ),
    "lars": Factor("rates by layer, for large batches", "arXiv:1708.03888", ("optim.name=lars", "optim.lr={}")),
    "lamb": Factor(
        "Adam by layer, rate for a batch of 2048",
        f"arXiv:1904.00962; {RSB}",
        ("optim.name=lamb", "optim.lr={}", "optim.weight_decay=0.02"),
        "0.005",
    ),
    "muon": Factor("orthogonal updates", "Keller Jordan, 2024", ("optim.name=muon", "optim.lr={}"), "0.02"),
    "rmsprop_tf": Factor(
        "RMSProp as in TensorFlow, rate for a batch of 4096",
        "EfficientNet, arXiv:1905.11946 section 5.2",
        ("optim.name=rmsprop_tf(eps=0.001)", "optim.lr={}", "optim.lr_batch=4096", "optim.weight_decay=0.00001"),
        "0.256",
    ),
    "rmsprop_inception": Factor(
        "RMSProp with epsilon 1, rate for a batch of 32",
        "Inception v3, arXiv:1512.00567 section 8",
        ("optim.name=rmsprop_tf(alpha=0.9, eps=1.0)", "optim.lr={}", "optim.lr_batch=32", "optim.weight_decay=0.00004"),
        "0.045",
    ),
    "schedule_free": Factor(
        "no schedule but a running mean",
        "arXiv:2405.15682",
        ("optim.name=schedule_free_sgd", "optim.lr={}", "schedule.kind=constant", "norm_batches=32"),
        "1.0",
    ),
    "lookahead": Factor("slow weights every 5 steps", "arXiv:1907.08610", ("optim.lookahead={}",), "5"),
    "sam": Factor("the worst point nearby, twice the work", "arXiv:2010.01412", ("optim.sam={}",), "0.05"),
    "agc": Factor("gradients clipped by unit", "arXiv:2102.06171", ("optim.agc={}",), "0.01"),
    "clip_norm": Factor("gradients clipped by norm", "arXiv:1211.5063", ("optim.clip_norm={}",), "1.0"),
    # weights, loss, network
    "ema": Factor("averaged weights", "arXiv:1905.11946; timm", ("ema={}",), "0.9998"),
    "bce": Factor("a sigmoid for each class", f"{RSB} section 3", ("loss.name=bce",)),
    "label_noise": Factor("wrong labels in training", "arXiv:1611.03530", ("loss.label_noise={}",), "0.2"),
    "pair_noise": Factor(
        "wrong labels, each class towards the next",
        "Co-teaching, arXiv:1804.06872",
        ("loss.label_noise={}", "loss.noise_to=next"),
        "0.4",
    ),
    "stochastic_depth": Factor("branches dropped", f"arXiv:1603.09382; {RSB}", ("model.drop_path={}",), "0.05"),
    "dropout": Factor("features dropped", "arXiv:1207.0580", ("model.dropout={}",), "0.3"),
    "xavier": Factor("uniform by fan in and out", f"{TRICKS} 2.1", ("init=xavier",)),
    "dirac": Factor("convolutions start as the identity", "arXiv:1706.00388", ("init=dirac",)),
    "skip_init": Factor("branches start at zero, without norms", "arXiv:2002.10444", ("init=skip_init",)),
    "gradinit": Factor("a learned scale of each weight", "arXiv:2102.08098", ("init=gradinit",)),
}


def parse_factors(text: str) -> tuple[Named, ...]:
    """ "mixup,optim.lr=0.05,mixup+cutmix" as factors, in this order. ConfigError for what none of them can be."""
    names = [part.strip() for part in split_outside(text, ",")]
    if not all(names):
        raise ConfigError(f'--factors "{text}": expected names separated by commas, such as cosine,smoothing,mixup')
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ConfigError(f"--factors: {twice[0]} stands twice")
    return tuple(Named(name, group(name)) for name in names)


def group(text: str) -> tuple[str, ...]:
    """All changes of "a+b". ConfigError where two of them set the same key."""
    changes = tuple(change for part in split_outside(text, "+") for change in changes_of(part.strip()))
    one_each(changes, text)
    return changes


def one_each(changes: Iterable[str], what: str) -> None:
    """ConfigError where two changes set the same key: which of them would hold?"""
    seen: dict[str, str] = {}
    for change in changes:
        key = change.partition("=")[0]
        if key in seen:
            raise ConfigError(f"{what}: {seen[key]} and {change} can not be switched on together")
        seen[key] = change


def changes_of(text: str) -> tuple[str, ...]:
    """The overrides of one factor without "+"."""
    name, sign, value = text.partition("=")
    if name in FACTORS:
        factor = FACTORS[name]
        wants = any("{}" in change for change in factor.changes)
        if sign and not wants:
            raise ConfigError(f"factor {text}: {name} takes no value; it means {' '.join(factor.changes)}")
        if wants and not (value or factor.value):
            raise ConfigError(f"factor {name} needs a value: {name}={example(factor)}")
        return tuple(change.replace("{}", value or factor.value) for change in factor.changes)
    if not sign:
        raise ConfigError(f'unknown factor "{text}": {near(text, FACTORS)} (foveate ablate --factors list)')
    if not value:
        raise ConfigError(f'factor "{text}": expected key=value')
    if name in WHOLE or name.startswith(ROOMS):
        return (text,)
    if name.startswith("layers."):
        return (f"model.{text}",)
    override(Recipe(), [text])  # a typing error is told before any data is read
    return (text,)


def example(factor: Factor) -> str:
    """What a value of a factor without a published one looks like."""
    examples = {"resolution={}": "176", "optim.lr={}": "2.0", "loss.teacher={}": "runs/photos-1/best"}
    return next(value for change, value in examples.items() if change in factor.changes)


def split_outside(text: str, sign: str) -> list[str]:
    """The parts of a text between signs that stand outside brackets. A plus before a digit is part of a number."""
    parts, depth = [""], 0
    for i, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        number = sign == "+" and re.match(r"\+[\d.]", text[i : i + 2]) is not None
        if letter == sign and depth == 0 and not number:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def table() -> list[tuple[str, str, str, str]]:
    """(name, overrides, what it does, source) of every factor, for people."""
    return [
        (name, " ".join(c.replace("{}", f.value or "...") for c in f.changes), f.text, f.source)
        for name, f in FACTORS.items()
    ]
