"""Near duplicates: what is laid on one another, what features propose, and groups without chains."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from foveate.trust import align, duplicates
from foveate.trust.duplicates import close_pairs, clusters, duplicate_groups, passing_cosine


def scene(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """A picture with edges at every size: blurred noise of several grains."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells in (3, 6, 12, 24, 48):
        noise = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        total += np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC), float)
    return Image.fromarray(np.clip((total / 5 - 127) * 2 + 127, 0, 255).astype(np.uint8))


def cropped(image: Image.Image, share: float) -> Image.Image:
    w, h = image.size
    return image.crop((0, 0, round(w * (1 - share)), round(h * (1 - share))))


CHANGES = {
    "crop 2.5 %": lambda i: cropped(i, 0.025),
    "crop 10 %": lambda i: cropped(i, 0.1),
    "crop of the middle": lambda i: i.crop((8, 6, 152, 114)),
    "light +25 %": lambda i: i.point(lambda v: min(255, int(v * 1.25))),
    "dark -25 %": lambda i: i.point(lambda v: int(v * 0.75)),
    "turned 5 degrees": lambda i: i.rotate(5, Image.Resampling.BICUBIC),
    "turned -5 degrees": lambda i: i.rotate(-5, Image.Resampling.BICUBIC),
    "mirrored": ImageOps.mirror,
    "mirrored and cropped": lambda i: cropped(ImageOps.mirror(i), 0.08),
    "half": lambda i: i.resize((80, 60)),
    "squashed": lambda i: i.resize((100, 100)),
    "grey": lambda i: i.convert("L").convert("RGB"),
}


@pytest.fixture(scope="module")
def scenes() -> list[Image.Image]:
    return [scene(seed) for seed in range(12)]


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_is_laid_on_its_original_and_on_no_other(scenes: list[Image.Image], name: str):
    first = np.stack([align.small(i) for i in scenes])
    second = np.stack([align.small(CHANGES[name](i)) for i in scenes])
    assert (align.correlation(first, second) >= duplicates.SAME).all()
    assert (align.correlation(second, first) >= duplicates.SAME).all()
    assert (align.correlation(first, np.roll(second, 1, 0)) < duplicates.SAME - 0.2).all()


def test_pictures_of_one_colour_are_like_nothing():
    flat = np.full((2, align.SIDE, align.SIDE), 90, np.uint8)
    assert align.correlation(flat, flat).tolist() == [0, 0]


def test_an_array_and_an_image_give_the_same_copy():
    picture = scene(3)
    assert np.array_equal(align.small(picture), align.small(np.asarray(picture)))


def test_close_pairs_are_those_of_the_full_product():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 40))
    x[700:] = x[:200] + 0.2 * rng.normal(size=(200, 40))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    every = np.triu(unit @ unit.T, 1)
    left, right, cosine = close_pairs(x, 0.9)
    assert set(zip(left, right, strict=True)) == set(zip(*np.nonzero(every >= 0.9), strict=True))
    assert cosine == pytest.approx(every[left, right], abs=1e-5)
    assert (np.diff(cosine) <= 1e-9).all()


def test_wide_features_are_compared_in_fewer_directions_and_none_is_lost():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1500, 700)).astype(np.float32) + 0.3
    x[1400:] = x[:100] + 0.2 * rng.normal(size=(100, 700)).astype(np.float32)
    left, right, _ = close_pairs(x, 0.9)
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == {(i, i + 1400) for i in range(100)}


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_is_near_where_there_is_nothing_else(n: int):
    assert [len(part) for part in close_pairs(np.ones((n, 4)), 0.5)] == [0, 0, 0]


def test_the_cosine_is_tighter_where_all_pictures_are_alike():
    rng = np.random.default_rng(0)
    far, alike = rng.normal(size=(400, 50)), rng.normal(size=(400, 50)) * 0.1 + 1
    labels = np.arange(400) % 4
    assert passing_cosine(far, labels) == duplicates.LEAST
    assert passing_cosine(alike, labels) > 0.98


def test_a_chain_of_neighbours_is_cut():
    angles = np.radians([0, 30, 60, 90])
    x = np.stack((np.cos(angles), np.sin(angles)), 1)
    groups = clusters(x, [(0, 1), (1, 2), (2, 3)])
    assert all(g.similarity >= duplicates.CUT for g in groups)
    assert sorted(i for g in groups for i in g.places) == [0, 1, 2, 3]
    sure = clusters(x, [(0, 1), (1, 2), (2, 3)], {(0, 1), (1, 2), (2, 3)})
    assert [g.places for g in sure] == [(0, 1, 2, 3)]


def test_features_propose_and_the_pictures_decide(scenes: list[Image.Image]):
    """All features are the same: only what can be laid on another is told."""
    pictures = [*scenes[:6], cropped(scenes[2], 0.06), ImageOps.mirror(scenes[4])]
    copies = np.stack([align.small(p) for p in pictures])
    features = np.eye(6, 9)[[0, 1, 2, 3, 4, 5, 2, 4]] + 0.3
    features[:, 8] += np.linspace(0, 0.01, 8)
    groups = duplicate_groups(features, copies, [0] * 8)
    assert {g.places for g in groups} == {(2, 6), (4, 7)}
    known = duplicate_groups(features, copies, [0] * 8, known=[[0, 1]], proposed=[[2, 3]])
    assert {g.places for g in known} == {(0, 1), (2, 6), (4, 7)}
    assert [g.places for g in duplicate_groups(features, copies[:0], [0] * 8, known=[[0, 1]], proposed=None)] == [
        (0, 1)
    ]
