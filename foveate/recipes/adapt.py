"""What a recipe should be for these pictures: a pure function from facts about them to a changed recipe and reasons."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from foveate.config import replace
from foveate.train.recipe import Recipe

STEPS, SMALLEST = 8, 8  # an epoch has at least so many steps, down to a batch of so many pictures
LEAST_STEPS, LONGER = 400, 4  # from scratch a training has at least so many steps, by at most so many times the epochs
IMBALANCE = 3.0  # pictures of the largest class over those of the smallest, above which classes are balanced
TEXT_CROP = 0.7  # smallest share of the area in random crops where a part of a sign can be another sign
SIDES = {
    "left",
    "right",
    "arrow",
    "east",
    "west",
    "clockwise",
    "counterclockwise",
    "anticlockwise",
    "ccw",
    "cw",
    "mirrored",
}
WORDS = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Facts:
    """What recipes ask of a data set. counts: training pictures by class, in the order of classes."""

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    grey: bool = False
    published: bool = False  # whether training starts from published weights

    @property
    def pictures(self) -> int:
        """Training pictures."""
        return sum(self.counts)

    @property
    def imbalance(self) -> float:
        """Largest over smallest class, of those that have pictures."""
        present = [n for n in self.counts if n]
        return max(present) / min(present) if present else 1.0


def adapt(recipe: Recipe, facts: Facts, given: Sequence[str] = ()) -> tuple[Recipe, list[str]]:
    """The recipe for these pictures and a line for each change.

    given: dotted fields that the user has set ("batch", "optim.lr"): they stay.
    """
    recipe, reasons = smaller_batch(recipe, facts.pictures, given)
    steps = max(1, facts.pictures // min(recipe.batch, max(1, facts.pictures)))
    longer = min(LONGER * recipe.epochs, math.ceil(LEAST_STEPS / steps))
    if longer > recipe.epochs and not facts.published and "epochs" not in given:
        reasons.append(f"{longer} epochs in place of {recipe.epochs}: few pictures make few steps")
        recipe = replace(recipe, epochs=longer)
    augment = recipe.augment
    if (why := mirrored_differs(facts.classes)) and "augment.flip" not in given:
        if augment.flip or augment.alternate:
            reasons.append(f"no mirrored pictures: {why} (augment.flip=true asks for them)")
            augment = replace(augment, flip=False, alternate=False)
        if 0 < augment.crop < TEXT_CROP and "augment.crop" not in given:
            reasons.append(f"crops of at least {TEXT_CROP:.0%} of the area: {why}")
            augment = replace(augment, crop=TEXT_CROP)
    if facts.grey and augment.lighting and "augment.lighting" not in given:
        reasons.append("no coloured lighting: the pictures are grey")
        augment = replace(augment, lighting=0.0)
    return replace(recipe, augment=augment), reasons


def smaller_batch(recipe: Recipe, pictures: int, given: Sequence[str] = ()) -> tuple[Recipe, list[str]]:
    """The recipe in batches of which an epoch of so many pictures has STEPS or more, and a line where that is new."""
    batch = max(min(recipe.batch, SMALLEST), min(recipe.batch, pictures // STEPS))
    if batch == recipe.batch or "batch" in given:
        return recipe, []
    steps = max(1, pictures // batch)
    reason = f"batch {batch} in place of {recipe.batch}: an epoch of {pictures} pictures has {steps} steps"
    if not recipe.optim.lr_batch and "optim.lr" not in given:
        lr = recipe.optim.lr * math.sqrt(batch / recipe.batch)
        recipe = replace(recipe, optim=replace(recipe.optim, lr=lr))
    return replace(recipe, batch=batch, parts=min(recipe.parts, batch)), [reason]


def mirrored_differs(classes: Sequence[str]) -> str:
    """Why a mirrored picture may be of another class, by the names of the classes; "" where nothing says so.

    Digits and letters: all names but one in ten are one sign. Sides: a name holds a word such as left, right or arrow.
    """
    names = [name.strip().lower() for name in classes]
    signs = [name for name in names if is_sign(name)]
    if len(names) > 1 and len(signs) >= 0.9 * len(names):
        return "the classes are digits or letters"
    for name, shown in zip(names, classes, strict=True):
        if SIDES & set(WORDS.findall(name.replace("_", " "))):
            return f"class {shown!r} names a side"
    return ""


def is_sign(name: str) -> bool:
    """Whether a class name is one digit or letter, also spelt out ("seven", "letter_b", "digit 3", "upper-q")."""
    words = WORDS.findall(name.replace("_", " "))
    spelt = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
    kinds = {
        "digit",
        "letter",
        "number",
        "char",
        "character",
        "upper",
        "lower",
        "uppercase",
        "lowercase",
        "capital",
        "small",
    }
    rest = [w for w in words if w not in kinds]
    return len(rest) == 1 and (len(rest[0]) == 1 or rest[0] in spelt)
