"""What the benchmarks of smaller networks begin with: part of the data, and a trained network, kept in a folder."""

import argparse
import time

import numpy as np
import torch
from torch import nn

from foveate.config import replace
from foveate.data.index import Dataset, open_data, subset
from foveate.data.load import Pictures, evaluation_pictures, training_pictures
from foveate.data.preprocess import Preprocess
from foveate.files import write_folder
from foveate.recipes import RECIPES
from foveate.train.artefact import ModelCard, load_model, model_files
from foveate.train.loop import train
from foveate.train.state import State
from foveate.zoo import FAMILIES, build
from foveate.zoo.family import Config

P = Preprocess(resolution=32, resize=32, fit="squash")


def pictures(given: argparse.Namespace) -> tuple[Dataset, Pictures, Pictures]:
    """(data, training, test): --limit and --test-limit of them, spread evenly; 0: all."""
    dataset, parts = open_data(given.data), {}
    for name, limit in (("train", given.limit), ("test", given.test_limit)):
        split = dataset.splits[name]
        limit = min(limit or len(split), len(split))
        parts[name] = subset(split, np.linspace(0, len(split) - 1, limit).round().astype(int))
    training = training_pictures(parts["train"], 32).load(given.threads)
    return dataset, training, evaluation_pictures(parts["test"], P).load(given.threads)


def base_of(given: argparse.Namespace, config: Config, dataset: Dataset, training: Pictures) -> nn.Module:
    """The network of --base, a model folder; where there is none it is trained by the recipe for CIFAR and kept."""
    if given.base and (given.base / "config.json").exists():
        return load_model(given.base)[0]
    begun = time.process_time()
    torch.manual_seed(0)
    threads = given.threads
    recipe = replace(RECIPES["cifar_standard"], epochs=given.epochs, precision="fp32", layout="nhwc", threads=threads)
    state = State(build(config), None, recipe, FAMILIES[config.family].head, "cpu")
    for _ in train(state, training, P, recipe, len(dataset.classes)):
        pass
    print(f"base: {given.epochs} epochs, {time.process_time() - begun:.0f} s CPU", flush=True)
    if given.base:
        card = ModelCard(config, dataset.classes, P, {"model": given.model, "fingerprint": dataset.fingerprint})
        write_folder(given.base, model_files(card, state.model.state_dict()))
    return state.model
