"""PIL images of every mode follow the rules of docs/pictures.md, as the files of their kind do."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from foveate.data.read.decode import decode
from foveate.deploy.predictor import pixels_of
from foveate.errors import DataError

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
CLEAR = RGB.convert("RGBA")
CLEAR.putalpha(Image.fromarray(np.random.default_rng(1).integers(0, 2, (9, 7), np.uint8) * 255))


def as_png(image):
    file = BytesIO()
    image.save(file, "PNG")
    return decode(file.getvalue())


@pytest.mark.parametrize(
    ("image", "same"),
    [
        (RGB.convert("P"), RGB.convert("P").convert("RGB")),
        (RGB.convert("1"), RGB.convert("1").convert("RGB")),
        (RGB.convert("CMYK"), RGB),
        (RGB.convert("RGBX"), RGB),
        (RGB.convert("HSV"), RGB.convert("HSV").convert("RGB")),
        (RGB.convert("YCbCr"), RGB.convert("YCbCr").convert("RGB")),
        (CLEAR.convert("RGBa"), CLEAR),
        (CLEAR.convert("LA").convert("La"), CLEAR.convert("LA")),
        (RGB.convert("P").convert("PA"), RGB.convert("P").convert("RGB")),
        (RGB.convert("L").convert("F"), RGB.convert("L")),
    ],
    ids=lambda image: image.mode,
)
def test_a_mode_reads_as_the_colours_that_it_stands_for(image, same):
    assert np.array_equal(pixels_of(image), as_png(same))


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16B", "I;16L"])
def test_deep_grey_is_divided_by_257_whatever_its_mode(mode):
    values = np.array([[0, 128, 129, 257, 25_700, 65_535]])
    image = Image.fromarray(values.astype(np.int32)).convert(mode)
    assert pixels_of(image)[0].tolist() == [[v] * 3 for v in (0, 0, 1, 1, 100, 255)]


def test_a_deep_picture_from_a_file_reads_as_the_file(tmp_path):
    values = np.random.default_rng(2).integers(0, 65_536, (6, 5), np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert np.array_equal(pixels_of(image.convert("I")), decode(tmp_path / "x.png"))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (Image.fromarray(np.array([[-1, 5]], np.int32)), "samples from -1 to 5; expected 0 to 65535"),
        (Image.fromarray(np.array([[0, 65_536]], np.int32)), "expected 0 to 65535"),
        (Image.fromarray(np.array([[0, 256.5]], np.float32)), "expected 0 to 1, or 0 to 255"),
        (Image.fromarray(np.array([[0, np.nan]], np.float32)), "float samples"),
        (Image.new("LAB", (3, 3)), "mode LAB"),
        (Image.new("RGB", (0, 3)), "mode RGB can not be read"),
    ],
)
def test_what_no_rule_covers_is_a_data_error_in_one_line(image, said):
    with pytest.raises(DataError, match=said) as error:
        pixels_of(image)
    assert "\n" not in str(error.value)
