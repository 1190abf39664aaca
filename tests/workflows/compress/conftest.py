"""The trained network that all compressions here begin with, trained once."""

import pytest
import torch
from compressible import RECIPE, TINY, P

from foveate.data.index import open_data
from foveate.data.load import training_pictures
from foveate.files import write_folder, write_json
from foveate.runs.plan import Plan
from foveate.train.artefact import ModelCard, model_files
from foveate.train.loop import train
from foveate.train.state import State
from foveate.zoo import FAMILIES, build


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """A run folder with a trained tiny network and the recipe that it was trained by."""
    dataset = open_data("digits")
    torch.manual_seed(0)
    state = State(build(TINY), None, RECIPE, FAMILIES["resnet"].head, "cpu")
    for _ in train(state, training_pictures(dataset.splits["train"], 8).load(), P, RECIPE, 10):
        pass
    folder = tmp_path_factory.mktemp("a run")
    facts = {"model": "tiny", "fingerprint": dataset.fingerprint}
    write_folder(folder / "best", model_files(ModelCard(TINY, dataset.classes, P, facts), state.model.state_dict()))
    write_json(folder / "recipe.json", Plan("digits", "tiny", TINY, RECIPE, P))
    return folder
