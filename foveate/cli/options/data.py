"""DATA, MODEL and KEY=VALUE: what a command works on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.options.declare import option, running
from foveate.errors import ConfigError

_DATA = "Folder of class folders (or train/ val/ test/), a CSV path,label, clothes, or digits."
Data = Annotated[str, typer.Argument(metavar="DATA", help=_DATA, show_default=False)]
DataOrNone = Annotated[str | None, typer.Argument(metavar="DATA", help=_DATA, show_default=False)]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Take what links outside of the folder lead to; else they stop it.")
]
_MODEL = "Model folder, or a run folder (then its best/)."
Model = Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL, show_default=False)]
ModelOrNone = Annotated[str | None, typer.Argument(metavar="MODEL", help=_MODEL, show_default=False)]
MaxDrop = Annotated[
    float, typer.Option("--max-drop", min=0.0, max=100.0, help="Points of accuracy that it may lose at most.")
]


@dataclass(frozen=True)
class Training:
    """What is trained: pictures, a network, and changes of the recipe."""

    data: DataOrNone = None
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Changes: optim.lr=0.05, model.layers.act=silu, preprocess.resolution=128.",
            show_default=False,
        ),
    ] = None
    model: Annotated[
        str | None,
        option("--model", metavar="NAME|MODEL", help="A name, or whose architecture: a folder or a .json."),
    ] = None

    def read(self, epochs: int | None = None, batch: str | None = None) -> tuple[str | None, list[str]]:
        """(DATA, the changes with those of --epochs and --batch). ConfigError for a word without =.

        Where DATA was left out the first change stands in its place.
        """
        data, changes = self.data, list(self.changes or [])
        if data is not None and "=" in data and not Path(data).exists():
            changes.insert(0, data)
            context = running()
            data = None if context is None else context.lookup_default("data")  # of foveate.toml
        for text in changes:
            if "=" not in text[1:]:
                raise ConfigError(f'"{text}": expected key=value, such as optim.lr=0.05')
        short = {"epochs": epochs, "batch": batch}
        return data, changes + [f"{key}={value}" for key, value in short.items() if value is not None]


def model_folder(text: str) -> Path:
    """MODEL as a folder with a config.json: itself, best/ of a run folder, or the local copy of hf-hub:ORG/NAME.

    ConfigError where there is none.
    """
    if text.startswith("hf-hub:"):
        from foveate.zoo.hub import hub_folder

        return hub_folder(text)
    folder = Path(text)
    for candidate in (folder, folder / "best"):
        if (candidate / "config.json").is_file():
            return candidate
    if not folder.exists():
        raise ConfigError(f"{text}: no such folder; expected a model folder such as runs/photos-1/best")
    raise ConfigError(f"{text}: no config.json here or in best/; expected a model folder such as runs/photos-1/best")
