"""CIFAR from scratch: the common ResNet/WRN recipe (arXiv:1512.03385 section 4.2, arXiv:1605.07146), with a cosine
instead of steps.
"""

from foveate.train.recipe import Augment, Optim, Recipe, Schedule

RECIPE = Recipe(
    epochs=60,
    batch=128,
    optim=Optim(lr=0.1, weight_decay=5e-4),
    schedule=Schedule(warmup=1.0),
    augment=Augment(shift=0.125),
)
