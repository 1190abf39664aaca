"""ShuffleNet as its paper trains it: arXiv:1707.01083, section 4.

A batch of 1024 for 300,000 steps (240 epochs of ImageNet), the rate falls in a straight line from 0.5 to 0, decay 4e-5,
and milder crops, for small networks underfit. Published: 67.4 % for shufflenet_g3_1x, the authors' code 67.8 %. Not run
at that size here. Crops of 25 % and more are our reading of "slightly less aggressive"; colours change and labels are
smoothed as in the authors' code.
"""

from foveate.train.recipe import Augment, Loss, Optim, Recipe, Schedule

RECIPE = Recipe(
    epochs=240,
    batch=1024,
    optim=Optim(lr=0.5, lr_batch=1024, momentum=0.9, weight_decay=4e-5),
    schedule=Schedule(kind="linear", warmup=0.0),
    augment=Augment(crop=0.25, colour=0.4),
    loss=Loss(smoothing=0.1),
)
