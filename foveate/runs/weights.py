"""What a training starts from: which network an address is of, and what a named network finds on this machine."""

from pathlib import Path
from typing import Any

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.zoo import variant
from foveate.zoo.hub import PREFIX, hub_facts, hub_folder, timm_name
from foveate.zoo.sources import TORCHVISION, form_for, known, timm_network


def named_network(weights: str) -> tuple[str, Any]:
    """(name, config) of the network that weights are of: a model folder, "hf-hub:ORG/NAME", "torchvision:ENUM.MEMBER"
    or a file that is named as its publisher names it. The config gives the publisher's outputs.

    A repository of timm's is asked for its config.json, and nothing else of it is fetched. ConfigError for what does
    not tell its network.
    """
    if weights.startswith(PREFIX):
        return hub_network(weights)
    if weights.startswith(TORCHVISION):
        if (public := known(weights)) is not None:
            return public.model, variant(public.model)
        raise ConfigError(f"--weights {weights}: say which network these weights are of with --models NAME")
    folder = Path(weights.removeprefix("local-dir:"))
    if (folder / "config.json").is_file():
        return folder_network(folder)
    from foveate.zoo.local import public_named

    if folder.is_file() and (public := public_named(folder.stem)) is not None:
        return public.model, form_for(variant(public.model), public.address)
    raise ConfigError(
        f"--weights {weights}: say which network these weights are of with --models NAME, "
        'or give a model folder, hf-hub:timm/NAME, "lite" or "hub"'
    )


def hub_network(address: str) -> tuple[str, Any]:
    """(name, config) of a repository of timm's or of a model folder of ours on a hub, with its number of classes."""
    if (public := known(address)) is not None:
        return public.model, form_for(variant(public.model), address)
    facts = hub_facts(address)
    if (theirs := timm_name(facts)) is None:
        if not isinstance(facts.get("architecture"), dict):
            raise ConfigError(
                f'{address}: its config.json has no "architecture"; expected a repository of timm or foveate'
            )
        return folder_network(hub_folder(address))
    name, config = timm_network(theirs)
    classes = facts.get("num_classes", config.num_classes)
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
        raise ConfigError(f"{address}: num_classes = {str(classes)[:40]}; expected 1 or more")
    return name, replace(config, num_classes=classes)


def folder_network(folder: Path) -> tuple[str, Any]:
    """(name, config) of a model folder of ours."""
    from foveate.train.artefact import read_card

    card = read_card(folder)[0]
    return str(card.provenance.get("model", card.architecture.family)), card.architecture


def weights_at_hand(model: str, config: Any) -> str | None:
    """The address of published weights of a named network that need no question to a network; None: there are none.

    A model that is itself an address starts from its own weights. Weights that are not for commercial use are left out.
    """
    if model.startswith(PREFIX):
        return model
    from foveate.zoo.local import local_weights

    public = local_weights().get(model)
    return public.address if public is not None and public.commercial and config.in_chans == 3 else None
