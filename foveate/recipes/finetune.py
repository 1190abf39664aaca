"""From published weights on a few thousand photographs: AdamW, gentle backbone, averaged weights, norms kept
(arXiv:1812.01187 section 5).
"""

from foveate.train.recipe import Augment, Optim, Recipe, Schedule

RECIPE = Recipe(
    epochs=10,
    batch=32,
    optim=Optim(name="adamw", lr=1e-3, weight_decay=0.02, backbone=0.5, clip_norm=5.0),
    schedule=Schedule(warmup=0.3),
    augment=Augment(crop=0.35, colour=0.2),
    smoothing=0.1,
    ema=0.99,
)
