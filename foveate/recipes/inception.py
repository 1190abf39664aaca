"""Inception v2 and v3 as their paper trains them: arXiv:1512.00567, section 8.

RMSProp in TensorFlow's form with decay 0.9 and epsilon 1.0, 0.045 for a batch of 32, times 0.94 every two epochs,
gradients clipped by norm at 2.0, label smoothing 0.1, 100 epochs, averaged weights. Published: 78.8 % for inception_v3
with model.aux=true, one crop at 299 pixels. Not run at that size here. The paper has 50 machines that train side by
side on batches of 32 each; here the rate grows with the batch. Momentum, decay and the average are those of TF-slim's
scripts.
"""

from foveate.train.recipe import Augment, Loss, Optim, Recipe, Schedule

RECIPE = Recipe(
    epochs=100,
    batch=32,
    optim=Optim(
        name="rmsprop_tf(alpha=0.9, eps=1.0)", lr=0.045, lr_batch=32, momentum=0.9, weight_decay=4e-5, clip_norm=2.0
    ),
    schedule=Schedule(kind="step(every=2, factor=0.94)", warmup=0.0),
    augment=Augment(crop=0.08, colour=0.4),
    loss=Loss(smoothing=0.1),
    ema=0.9999,
)
