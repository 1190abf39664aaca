"""Real pictures for calibration and for comparing answers, from DATA or from a folder without labels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from foveate.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

    from foveate.data.index import Split
    from foveate.deploy.compare import Sample

CALIBRATION, CHECKED = 200, 256  # pictures at most


def labelled(
    data: str,
    classes: Sequence[str],
    bad_files: str = "stop",
    checked: int = CHECKED,
    follow_links: bool = False,
) -> tuple[list["np.ndarray"], "Sample"]:
    """(pictures of train for calibration, labelled pictures of test, or of val where there is no test), spread evenly.

    Classes are matched by name; DataError for one that the model does not know.
    """
    import numpy as np

    from foveate.data.index import open_data
    from foveate.deploy.compare import Sample

    dataset = open_data(data, bad_files=bad_files, follow_links=follow_links)
    if unknown := sorted(set(dataset.classes) - set(classes)):
        raise DataError(f'{data}: class "{unknown[0]}" is not one of the model\'s {len(classes)} classes')
    place = np.array([list(classes).index(name) for name in dataset.classes])
    name = "test" if "test" in dataset.splits else "val"
    _, calibration = _some(dataset.splits["train"], CALIBRATION)
    kept, pictures = _some(dataset.splits[name], checked)
    labels = place[np.array(dataset.splits[name].labels)[kept]]
    return calibration, Sample(pictures, labels, f"{name} of {dataset.name}")


def unlabelled(folder: str, follow_links: bool = False) -> tuple[list["np.ndarray"], "Sample"]:
    """The pictures below a folder, dealt out in turns: for calibration, and for comparing answers."""
    from foveate.data.gate.inside import inside
    from foveate.data.read.decode import decode
    from foveate.deploy.compare import Sample

    names = inside(folder, follow_links)
    found = []
    for name in names[:: max(1, len(names) // (CALIBRATION + CHECKED))]:
        try:
            found.append(decode(name))
        except DataError:
            continue
    if not found:
        raise DataError(f"{folder}: no picture here can be read")
    return found[::2][:CALIBRATION], Sample((found[1::2] or found)[:CHECKED], name=folder)


def given(
    data: str | None, folder: str | None, classes: Sequence[str], follow_links: bool = False
) -> tuple[list["np.ndarray"], "Sample"]:
    """By --data, by --pictures, or generated ones (nothing for calibration); ConfigError for both."""
    if data is not None and folder is not None:
        raise ConfigError("--data and --pictures: give one of them")
    if data is not None:
        return labelled(data, classes, follow_links=follow_links)
    if folder is not None:
        return unlabelled(folder, follow_links)
    from foveate.deploy.compare import Sample, generated

    return [], Sample(generated(), name="generated")


def _some(split: "Split", count: int) -> tuple[list[int], list["np.ndarray"]]:
    """(positions, decoded pictures) of up to count samples, spread evenly; what can not be read is passed over."""
    import numpy as np

    from foveate.data.read.decode import decode

    kept, pictures = [], []
    for i in np.unique(np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(int)).tolist():
        try:
            pictures.append(split.pixels[i] if split.pixels is not None else decode(split.paths[i]))
        except DataError:
            continue
        kept.append(i)
    return kept, pictures
