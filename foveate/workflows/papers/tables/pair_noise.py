"""Wrong labels that depend on the class, for a net with attention and one without."""

from foveate.workflows.papers.table import Arm, Table, Trainings
from foveate.workflows.papers.tables import attention_noise

PAIRS = ("loss.label_noise=0.4", "loss.noise_to=next")
WHOLE = attention_noise.TABLE

TABLE = Table(
    name="pair_noise",
    seed_page="000, 003",
    paper="Residual Attention Network",
    arxiv="1704.06904",
    claim="Attention loses less accuracy than a residual net to labels that are wrong in one direction, too.",
    scale=WHOLE.scale,
    contrasts=WHOLE.contrasts,
    study=Trainings(
        attention_noise.RESNET,
        (
            Arm("ResNet"),
            Arm("attention", network=attention_noise.ATTENTION),
            Arm("ResNet, noise", PAIRS),
            Arm("attention, noise", PAIRS, attention_noise.ATTENTION),
        ),
        epochs=10,
        sd=1.0,
        seeds=8,
        measure="last_epoch",
        changes=("batch=64", "schedule.warmup=@0.1"),
        resolution=32,
    ),
    minutes=320.0,
    critique="each class towards the next one; the paper's figures are of symmetric noise",
)
