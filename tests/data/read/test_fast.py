"""Cutting while reading: the same crops, the same pixels, and exactly the same refusals as the common way."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from test_decode import mutated

from foveate.config import replace
from foveate.data.augment import COLUMNS, CROP, augment
from foveate.data.index import Split, open_data
from foveate.data.load import Crop, cut_pictures, evaluation_pictures, training_pictures
from foveate.data.preprocess import Preprocess, prepare
from foveate.data.random import uniforms
from foveate.data.read import fast
from foveate.data.read.decode import LeanJpeg, decode, decode_image, lean_jpeg
from foveate.data.read.fast import crop_pixels, crop_share, cut
from foveate.data.read.formats import BadImage
from foveate.data.read.reader import DEFAULT_LIMITS, Limits
from foveate.errors import ConfigError
from foveate.train.recipe import Augment

CUTS = uniforms(0, 0, np.arange(12), CROP.stop)[:, CROP].tolist()
WHOLE = [0.999999, 0.5, 0.5, 0.5]


def photo(width: int, height: int, cell: int = 20) -> Image.Image:
    """A smooth picture with details of `cell` pixels and some noise, never black."""
    draw = np.random.default_rng(0)
    coarse = draw.integers(40, 256, (height // cell + 2, width // cell + 2, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(np.clip(image + draw.integers(-9, 10, image.shape), 1, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """JPEGs of 1200 x 900: one scan; with restarts; progressive; grey; lying on its side."""
    folder, image = tmp_path_factory.mktemp("large"), photo(1200, 900)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = {"plain": {}, "restarts": {"restart_marker_rows": 1}, "progressive": {"progressive": True}}
    for name, options in {**kinds, "turned": {"exif": exif}}.items():
        image.save(folder / f"{name}.jpg", quality=90, **options)
    image.convert("L").save(folder / "grey.jpg", quality=90)
    return {path.stem: path for path in folder.iterdir()}


def as_pillow(image: Image.Image, u: list[float], size: int, crop: float) -> np.ndarray:
    """The crop as torchvision's RandomResizedCrop makes it: cut out with Pillow, then resized."""
    box = crop_pixels(crop_share(u, image.width / image.height, crop), *image.size)
    return np.asarray(image.crop(box).resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def far(a: torch.Tensor, b: np.ndarray) -> int:
    return int(np.abs(a.numpy().astype(int) - b.astype(int)).max())


# which crop


@pytest.mark.parametrize(("crop", "shift"), [(0.08, 0.0), (0.5, 0.0), (0.0, 0.0), (0.0, 0.125)])
@pytest.mark.parametrize("shape", [(300, 400), (400, 300), (100, 500)])
def test_the_crop_is_the_one_that_augment_takes(crop, shift, shape):
    height, width = shape
    y, x = np.mgrid[:height, :width]
    ramps = np.stack([(x + 0.5) * 255 / width, (y + 0.5) * 255 / height, 0 * x], -1).round().astype(np.uint8)
    square = np.asarray(Image.fromarray(ramps).resize((256, 256), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    u = uniforms(3, 1, np.arange(8), COLUMNS)
    stored = torch.from_numpy(np.repeat(square[None], 8, 0).copy())
    changes = Augment(crop=crop, shift=shift, flip=False)
    expected = augment(stored, torch.full((8,), width / height), u, 64, changes) * 255
    for i, row in enumerate(u[:, CROP].tolist()):
        found = cut(ramps, row, 64, crop, shift).float()
        assert (found.mean((1, 2)) - expected[i].mean((1, 2))).abs().max() < 1.5  # where the box is
        assert (found - expected[i]).abs().max() < 4  # and how large: the ramps show every place


def test_boxes_have_the_areas_and_aspects_that_were_asked_for():
    u = uniforms(1, 0, np.arange(4000), 4)
    boxes = np.array([crop_share(row, 4 / 3, 0.25) for row in u.tolist()])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0 and boxes.max() <= 1 + 1e-12
    free = (width < 1) & (height < 1)
    area, aspect = (width * height)[free], (width * 4 / (height * 3))[free]
    assert area.min() >= 0.25 - 1e-12 and aspect.min() >= 3 / 4 - 1e-9 and aspect.max() <= 4 / 3 + 1e-9
    assert 0.58 < (width * height).mean() < 0.625  # uniform in [0.25, 1], a little less for boxes cut to fit


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (100, 3)])
def test_a_box_has_a_pixel_and_stays_inside(size):
    for u in CUTS:
        left, top, right, bottom = crop_pixels(crop_share(u, size[0] / size[1], 0.01), *size)
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        assert cut(np.zeros((size[1], size[0], 3), np.uint8), u, 5, 0.01).shape == (3, 5, 5)


def test_a_size_or_share_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="size=0"):
        cut(np.zeros((4, 4, 3), np.uint8), WHOLE, 0, 0.1)
    with pytest.raises(ConfigError, match=r"crop=1\.5"):
        cut(np.zeros((4, 4, 3), np.uint8), WHOLE, 4, 1.5)


# which pixels


def test_at_full_size_the_pixels_are_pillows_to_one_level(large):
    for name, path in large.items():
        image = Image.fromarray(decode(path))
        for u in CUTS[:4]:
            assert far(cut(path, u, 500, 0.6), as_pillow(image, u, 500, 0.6)) <= 1, name


def test_every_good_odd_picture_is_cut_as_pillow_cuts_its_pixels(good_name, odd_images):
    image = Image.fromarray(decode(odd_images[good_name]))
    for u in (*CUTS[:2], WHOLE):
        assert far(cut(odd_images[good_name], u, 40, 0.3), as_pillow(image, u, 40, 0.3)) <= 1


@pytest.mark.parametrize(("least", "divisor"), [(112, 8), (113, 4), (225, 4), (226, 2), (450, 2), (451, 1), (2000, 1)])
def test_a_large_jpeg_is_decoded_at_the_smallest_size_that_will_do(large, least, divisor):
    for name, path in large.items():
        image = decode_image(path, need=lambda width, height: (1, least) if width > height else (least, 1))
        with Image.open(path) as other:
            other.draft(None, (other.width // divisor, other.height // divisor))
            expected = other.convert("RGB")
        expected = expected.transpose(Image.Transpose.ROTATE_270) if name == "turned" else expected
        assert np.array_equal(np.asarray(image), np.asarray(expected)), (name, image.size)


def test_other_formats_come_whole(odd_images):
    for name in ("plain.png", "plain.webp", "plain.tiff", "plain.bmp", "grey.gif"):
        assert np.array_equal(decode(odd_images[name], need=lambda width, height: (1, 1)), decode(odd_images[name]))


@pytest.mark.parametrize(("side", "divisor"), [(0, 1), (200, 4), (400, 2)])
def test_the_scale_is_chosen_from_the_crop_and_the_stored_side(large, side, divisor):
    u = [0.0, 0.5, 0.5, 0.5]  # 8 % of the area: 294 x 294 pixels
    with Image.open(large["plain"]) as image:
        image.draft(None, (1200 // divisor, 900 // divisor))
        scaled = image.convert("RGB")
    assert far(cut(large["plain"], u, 224, 0.08, side=side), as_pillow(scaled, u, 224, 0.08)) <= 1


def test_a_scaled_crop_looks_as_the_full_one(tmp_path):
    photo(1200, 900, cell=200).save(path := tmp_path / "calm.jpg", quality=90)
    whole = Image.fromarray(decode(path))
    for u in CUTS:
        scaled, exact = cut(path, u, 64, 0.5).float(), as_pillow(whole, u, 64, 0.5).astype(np.float32)
        assert 0 < (scaled - torch.from_numpy(exact)).abs().mean() < 2


# how much of the file


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(1200, 900), (613, 407)])
def test_rows_below_the_crop_are_not_decoded_and_the_pixels_are_pillows(tmp_path, monkeypatch, subsampling, size):
    asked, upper = [], LeanJpeg.upper

    def noted(lean: LeanJpeg, rows: int) -> bytearray:
        asked.append(rows)
        return upper(lean, rows)

    monkeypatch.setattr(LeanJpeg, "upper", noted)
    for restarts in (0, 1):
        path = tmp_path / f"{restarts}.jpg"
        photo(*size).save(path, quality=90, subsampling=subsampling, restart_marker_rows=restarts, comment=b"ab" * 99)
        for u in (*CUTS[:6], [0.1, 0.5, 0.5, 0.0]):
            for out in (30, 70, 150, 300):
                early = cut(path, u, out, 0.1)
                with monkeypatch.context() as patch:
                    patch.setattr(fast, "lean_jpeg", lambda d, limits: lean_jpeg(d, limits)._replace(plain=False))
                    assert torch.equal(cut(path, u, out, 0.1), early)
    assert len(asked) == 2 * 4 * 7 and min(asked) < 0.6 * size[1] < max(asked) <= size[1]


def test_a_jpeg_is_plain_only_where_nothing_can_follow_its_scan(large, odd_images):
    data = large["plain"].read_bytes()
    scan = data.rindex(b"\xff\xda")
    assert lean_jpeg(data, DEFAULT_LIMITS).plain
    for other in (
        data + b"\0",  # something behind the end
        data[:-2] + data[scan:],  # a second scan
        data[:-2] + b"\xff\xe0\x00\x04ab\xff\xd9",  # a segment behind the scan
        data[:-500] + b"\xff\xd9" + data[-498:],  # an end in the middle
    ):
        assert not lean_jpeg(other, DEFAULT_LIMITS).plain
    assert not lean_jpeg(odd_images["arithmetic.jpg"].read_bytes(), DEFAULT_LIMITS).plain


# which files


def test_a_bad_file_is_refused_with_the_same_words(bad_name, odd_images):
    with pytest.raises(BadImage) as common:
        decode(odd_images[bad_name])
    for u in (CUTS[0], [0.0, 0.5, 0.5, 0.0]):
        with pytest.raises(BadImage) as caught:
            cut(odd_images[bad_name], u, 8, 0.08)
        assert (caught.value.reason, str(caught.value)) == (common.value.reason, str(common.value))


def test_a_jpeg_cut_off_at_any_byte_is_refused_whatever_the_crop(large, odd_images):
    for whole in (odd_images["plain.jpg"].read_bytes(), large["plain"].read_bytes(), large["restarts"].read_bytes()):
        for length in {*range(2, len(whole), len(whole) // 40), *range(len(whole) - 10, len(whole))}:
            with pytest.raises(BadImage):
                cut(whole[:length], [0.0, 0.5, 0.5, 0.0], 16, 0.08)


def test_300_damaged_jpegs_are_refused_exactly_where_decode_refuses_them(large, odd_images, capfd):
    draw, limits = random.Random(1), Limits(max_pixels=2_000_000)
    corpus = [path for name, path in odd_images.items() if name.endswith(".jpg") and 100 < path.stat().st_size < 20_000]
    small = Image.open(large["plain"]).resize((240, 180))
    small.save(plain := large["plain"].with_name("small.jpg"), quality=80)
    seen = {"pixels": 0, "refused": 0}
    for i in range(300):
        data = bytearray((plain if i % 2 else draw.choice(corpus)).read_bytes())
        if i % 4 == 1 and len(data) > 900:  # inside the coded data, where only the decoder sees it
            data[draw.randrange(700, len(data) - 2)] ^= 1 << draw.randrange(8)
            damaged = bytes(data)
        else:
            damaged = mutated(bytes(data), draw)
        reasons = []
        for call in (
            lambda d=damaged: decode(d, limits),
            lambda d=damaged: cut(d, [0.0, 0.5, 0.5, 0.0], 24, 0.1, limits=limits),
            lambda d=damaged: cut(d, WHOLE, 100, 0.1, limits=limits),
        ):
            try:
                call()
                reasons.append("")
            except BadImage as error:
                reasons.append(error.reason)
        assert len(set(reasons)) == 1, reasons
        seen["refused" if reasons[0] else "pixels"] += 1
    assert min(seen.values()) > 30


# whole splits


@pytest.fixture
def folder(tmp_path):
    for i in range(24):
        path = tmp_path / "photos" / "train" / "ab"[i % 2] / f"{i:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(120 + i, 90 + 2 * i).save(path, quality=90)
    return tmp_path / "photos"


def modes(split):
    yield "exact", training_pictures(split, 28)
    yield "scaled", training_pictures(split, 28, decode="scaled")
    yield "cut", cut_pictures(split, 24, Crop(0.3, 0.0, 28))


def test_every_mode_gives_the_same_batches_for_any_worker_count(folder):
    split = open_data(folder).splits["train"]
    for mode, pictures in modes(split):
        runs = [list(pictures.epoch(7, 2, 4, workers=workers)) for workers in (0, 1, 3)]
        assert len(runs[0]) == len(split) // 4
        for batches in runs[1:]:
            for one, other in zip(runs[0], batches, strict=True):
                assert torch.equal(one.pictures, other.pictures), mode
                assert torch.equal(one.aspect, other.aspect) and np.array_equal(one.samples, other.samples)
                assert one.cut == other.cut == (mode == "cut")


def test_scaled_squares_are_the_same_from_memory_and_from_files(folder):
    split = open_data(folder).splits["train"]
    kept = list(training_pictures(split, 28, decode="scaled").load().epoch(7, 2, 4))
    for one, other in zip(kept, training_pictures(split, 28, decode="scaled").epoch(7, 2, 4, workers=2), strict=True):
        assert torch.equal(one.pictures, other.pictures) and torch.equal(one.aspect, other.aspect)


def test_scaled_squares_look_as_exact_ones(folder):
    split = open_data(folder).splits["train"]
    exact, scaled = (training_pictures(split, 28, decode=kind).gather(range(8)) for kind in ("exact", "scaled"))
    assert not torch.equal(exact.pictures, scaled.pictures)
    assert (exact.pictures.float() - scaled.pictures.float()).abs().mean() < 3
    assert (exact.aspect / scaled.aspect - 1).abs().max() < 0.02  # sides are rounded up


def test_a_crop_depends_on_seed_epoch_sample_and_copy_alone(folder):
    split = open_data(folder).splits["train"]
    pictures = cut_pictures(split, 24, Crop(0.3, 0.0, 28))
    for batch in pictures.epoch(7, 2, 4, start=3, repeats=2):
        drawn = batch.samples + batch.copies * len(pictures)
        for picture, i, u in zip(batch.pictures, batch.samples, uniforms(7, 2, drawn, CROP.stop)[:, CROP], strict=True):
            assert torch.equal(picture, cut(split.paths[i], u.tolist(), 24, 0.3, side=28))
    first, second = (next(iter(pictures.epoch(7, epoch, len(split)))) for epoch in (0, 1))
    again = second.pictures[np.argsort(second.samples)] == first.pictures[np.argsort(first.samples)]
    assert again.float().mean() < 0.5


def test_augment_only_turns_what_was_cut(folder):
    split = open_data(folder).splits["train"]
    batch = next(iter(cut_pictures(split, 24, Crop(0.3, 0.0, 28)).epoch(7, 2, 6)))
    u = uniforms(7, 2, batch.samples, COLUMNS)
    expected = torch.stack([p.flip(2) if row[0] < 0.5 else p for p, row in zip(batch.pictures, u, strict=True)])
    assert torch.equal(augment(batch.pictures, batch.aspect, u, 24, Augment()), expected.float() / 255)


def test_a_file_that_turns_bad_is_left_out_of_a_cut_batch(folder):
    split = open_data(folder).splits["train"]
    with open(split.paths[3], "r+b") as file:
        file.truncate(900)
    pictures = cut_pictures(split, 24, Crop(0.3, 0.0, 28))
    with pytest.raises(BadImage, match=r"\.jpg"):
        list(pictures.epoch(0, 0, 4))
    pictures.bad_files = "skip"
    seen = np.concatenate([batch.samples for batch in pictures.epoch(0, 0, 4, workers=2)])
    assert sorted(seen) == [i for i in range(len(split)) if i != 3]


def test_evaluation_at_scale_is_what_prediction_makes_of_the_scaled_picture(large):
    split = Split(tuple(str(large[name]) for name in ("plain", "turned", "grey")), (0, 0, 0))
    p = Preprocess(resolution=64, resize=72)
    ways = (p, replace(p, decode="scaled"))
    exact, scaled = (evaluation_pictures(split, way).gather(range(3)).pictures for way in ways)
    for path, one, other in zip(split.paths, exact, scaled, strict=True):
        eighth = decode(path, need=lambda width, height: (width // 8, height // 8))
        assert np.array_equal(other.permute(1, 2, 0).numpy(), prepare(eighth, p))
        assert not torch.equal(one, other)


def test_arrays_of_pixels_are_cut_too():
    split = open_data("digits").splits["train"]
    batch = next(iter(cut_pictures(split, 8, Crop(0.3, 0.0, 8)).epoch(0, 0, 5)))
    for picture, i, u in zip(batch.pictures, batch.samples, uniforms(0, 0, batch.samples, 5)[:, CROP], strict=True):
        assert far(picture, as_pillow(Image.fromarray(split.pixels[i]), u.tolist(), 8, 0.3)) <= 1
