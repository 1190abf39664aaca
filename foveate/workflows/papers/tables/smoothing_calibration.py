"""Label smoothing and the calibration error."""

from foveate.workflows.papers.hosts import FAST
from foveate.workflows.papers.table import Published, Table, Trainings, versus
from foveate.workflows.papers.tables.label_smoothing import NONE, SMOOTHED

TABLE = Table(
    name="smoothing_calibration",
    seed_page="001, 004",
    paper="When Does Label Smoothing Help?",
    arxiv="1906.02629",
    claim="Smoothing lowers the calibration error of a net that is not temperature-scaled.",
    scale="CIFAR-100 and ImageNet, ResNet-56 and Inception-v4",
    contrasts=(
        versus(
            "0.1",
            "none",
            Published(None, "expected calibration error, no temperature", "arXiv:1906.02629, table 3"),
            "less",
            effect=2.0,
        ),
    ),
    study=Trainings(
        FAST,
        (NONE, SMOOTHED),
        pictures=0,
        epochs=5,
        sd=0.5,
        recipe="cifar_fast",
        resolution=32,
        measure="calibration_error",
    ),
    minutes=45.0,
    critique="a short training is not over-confident yet: smoothing then makes it under-confident",
)
