"""Which space suits which pictures: what is searched unless the user says so, and what is said of another one."""

from foveate.config import parse_call
from foveate.data.index import Dataset
from foveate.data.sample import is_grey, is_small, sample_shapes
from foveate.workflows.search.subnets.source import FEWEST, NAME, is_subnets

THUMBNAILS, PHOTOS = ("thumbnail", "nasnet", "nas"), ("mnasnet", "mobilenet", "efficientnet_base", "mixnet")
SMALL, LARGE = "thumbnail", "mobilenet"  # spaces of nets from scratch
PARENTS = ("efficientnet_lite0", "mobilenetv3_large_100", "mobilenet_v2", "resnet18")  # whose sub-networks, in turn
AUTO = "auto"


def default_space(dataset: Dataset) -> str:
    """Thumbnails: their own space, from scratch. Photographs: the sub-networks of a net with weights on this machine,
    where there is one and there are pictures enough; else mobile nets from scratch.
    """
    if is_small(dataset):
        return SMALL
    parent = default_parent()
    return f"{NAME}(of={parent!r})" if parent and len(dataset.splits["train"]) >= FEWEST else LARGE


def named_space(text: str, dataset: Dataset) -> str:
    """The space that a text names; "auto": what suits the pictures."""
    return default_space(dataset) if text == AUTO else text


def shares_weights(text: str, dataset: Dataset) -> bool:
    """Whether the nets of a space are sub-networks of one with weights."""
    return is_subnets(named_space(text, dataset))


def default_parent() -> str | None:
    """The net of PARENTS, or else any, whose published weights are on this machine."""
    from foveate.zoo.local import local_weights

    offers = [name for name, public in local_weights().items() if public.commercial]
    return next((name for name in PARENTS if name in offers), offers[0] if offers else None)


def has_own_recipes(space: str, dataset: Dataset) -> bool:
    """Whether families of a space are trained by recipes of their own: of the space for thumbnails, in colour."""
    own = not space.endswith(".py") and parse_call(space)[0] == SMALL
    return own and is_small(dataset) and not is_grey(dataset)


def unsuited(space: str, dataset: Dataset) -> str | None:
    """One line about a space made for pictures of another size; None where it suits them."""
    name = "" if space.endswith(".py") else parse_call(space)[0]
    side = max(max(shape) for shape in sample_shapes(dataset.splits["train"]))
    if is_small(dataset) and name in PHOTOS:
        return (
            f"{name} was made for photographs, and these pictures have {side} pixels: its nets learn them slowly;"
            f" --space {SMALL} suits them"
        )
    if not is_small(dataset) and name in THUMBNAILS[:1]:
        return (
            f"{name} was made for pictures of 64 pixels or less, and these have up to {side}: its nets have too few"
            f" strides; --space '{default_space(dataset)}' suits them"
        )
    return None
