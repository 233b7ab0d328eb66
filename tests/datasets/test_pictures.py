"""PNG annotations of every encoding: the numbers that were stored, or one line."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from kit.png_files import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, write_png
from kit.synthetic import write_chaos_case
from PIL import Image

from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.readers.pictures import PictureError, read_indices
from usbench.datasets.tasks import get_task
from usbench.errors import UsbenchError

SHAPE = (13, 17)


def _drawn(depth: int) -> np.ndarray:
    return np.random.default_rng(depth).integers(0, 2**depth, SHAPE)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_values_are_those_stored(tmp_path, depth, interlaced):
    path = write_png(tmp_path / "a.png", _drawn(depth), depth, interlaced=interlaced)
    values, called = read_indices(path, SHAPE)
    assert np.array_equal(values, _drawn(depth))
    assert called == ("grey values" if depth == 8 else f"{depth}-bit grey values")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palette_gives_its_indices_and_not_its_colours(tmp_path, depth, interlaced):
    colours = np.random.default_rng(9).integers(0, 256, (2**depth, 3)).tolist()
    path = write_png(tmp_path / "a.png", _drawn(depth), depth, PALETTE, interlaced, colours)
    values, called = read_indices(path, SHAPE)
    assert np.array_equal(values, _drawn(depth))
    assert called == "palette indices"


@pytest.mark.parametrize(
    ("colour", "chunk"),
    [
        (GREY, (b"tRNS", struct.pack(">H", 63))),
        (GREY, (b"gAMA", struct.pack(">I", 45455))),
        (GREY, (b"sBIT", b"\4")),
        (PALETTE, (b"tRNS", bytes(range(200)))),
    ],
)
def test_transparency_and_gamma_change_no_value(tmp_path, colour, chunk):
    palette = [(255 - v, v, 7) for v in range(256)] if colour == PALETTE else ()
    path = write_png(tmp_path / "a.png", _drawn(8), 8, colour, palette=palette, chunks=[chunk])
    assert np.array_equal(read_indices(path, SHAPE)[0], _drawn(8))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(
    ("colour", "samples", "name"), [(RGB, 3, "RGB"), (GREY_ALPHA, 2, "LA"), (RGBA, 4, "RGBA")]
)
def test_colours_and_transparency_of_pixels_are_refused(tmp_path, depth, colour, samples, name):
    values = np.repeat(_drawn(depth)[..., None], samples, axis=-1)
    path = write_png(tmp_path / "a.png", values, depth, colour)
    with pytest.raises(PictureError, match=rf"a picture of mode {name}, grey values are expected") as error:
        read_indices(path, SHAPE)
    assert error.value.remedy == "save it as a PNG of 8-bit grey values"


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP", "TIFF", "PPM"])
def test_another_format_under_the_name_of_a_png_is_refused(tmp_path, kind):
    path = tmp_path / "a.png"
    Image.fromarray(_drawn(8).astype(np.uint8)).save(path, format=kind)
    with pytest.raises(PictureError, match=rf"a {kind} picture under the name of a PNG") as error:
        read_indices(path, SHAPE)
    assert "extract" not in error.value.remedy


def test_an_animation_is_refused(tmp_path):
    frames = [Image.fromarray((_drawn(8) // n).astype(np.uint8)) for n in (1, 2)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(PictureError, match="an animation"):
        read_indices(tmp_path / "a.png", SHAPE)


def test_any_flipped_byte_is_found(tmp_path):
    """Pixels that are stored without compression, so that a flip unpacks: the check sum tells."""
    content = write_png(tmp_path / "a.png", _drawn(8), level=0).read_bytes()
    for place in range(0, len(content) - 12, 5):  # up to the end mark, which holds nothing
        spoiled = bytearray(content)
        spoiled[place] ^= 1
        (tmp_path / "b.png").write_bytes(bytes(spoiled))
        with pytest.raises(PictureError):
            read_indices(tmp_path / "b.png", SHAPE)
    for length in range(0, len(content) - 12, 7):
        (tmp_path / "b.png").write_bytes(content[:length])
        with pytest.raises(PictureError, match="truncated or invalid PNG file"):
            read_indices(tmp_path / "b.png", SHAPE)


def test_a_huge_picture_is_refused_before_it_is_unpacked(tmp_path):
    path = write_png(tmp_path / "a.png", _drawn(8))
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 2**30, 2**30)
    path.write_bytes(bytes(content))
    with pytest.raises(PictureError, match=r"1073741824 rows x 1073741824 columns, its slice has 13 x 17"):
        read_indices(path, SHAPE)


@pytest.fixture(scope="module")
def chaos(tmp_path_factory):
    """A folder of CHAOS with one case, and the folder of its T2-SPIR annotation."""
    root = tmp_path_factory.mktemp("chaos")
    return root, write_chaos_case(root, "1") / "T2SPIR/Ground"


def _read(root):
    return open_reader(get_task("chaos").with_modalities(["t2-spir"]), root).read("1").mask


def test_index_4_of_a_picture_of_4_bits_is_no_liver(chaos):
    """Spread over 0 to 255 it would be 68, a value of the liver."""
    root, ground = chaos
    file = ground / "IMG-0002-00004.png"
    before = file.read_bytes()
    try:
        write_png(file, np.full((28, 32), 4), 4)
        with pytest.raises(
            UsbenchError, match=r"00004\.png: 4-bit grey values 4 are unknown, allowed are 0, 55-70"
        ):
            _read(root)
        write_png(file, np.full((28, 32), 1), 1)
        with pytest.raises(UsbenchError, match=r"1-bit grey values 1 are unknown"):
            _read(root)
        write_png(file, np.full((28, 32), 63 * 257), 16)
        with pytest.raises(UsbenchError, match=r"16-bit grey values 16191 are unknown"):
            _read(root)
        write_png(file, np.full((28, 32), 1), 8, PALETTE, palette=[(0, 0, 0), (63, 63, 63)])
        with pytest.raises(UsbenchError, match=r"palette indices 1 are unknown"):
            _read(root)
        Image.fromarray(np.full((28, 32), 63, np.uint8)).save(file, format="JPEG")
        with pytest.raises(
            UsbenchError, match=r"00004\.png: a JPEG picture .*; save it as a PNG of 8-bit grey"
        ):
            _read(root)
    finally:
        file.write_bytes(before)


def test_other_encodings_of_the_same_numbers_give_the_same_classes(chaos):
    root, ground = chaos
    expected = _read(root)
    assert set(np.unique(expected)) == {0, 1, 4}
    rainbow = [(v, 255 - v, 9 * v % 256) for v in range(256)]
    for depth, colour, palette in ((16, GREY, ()), (8, PALETTE, rainbow), (8, GREY, ())):
        for number, file in enumerate(sorted(ground.iterdir())):
            values, _ = read_indices(file, (28, 32))
            write_png(file, values, depth, colour, interlaced=number % 2 == 0, palette=palette)
        assert np.array_equal(_read(root), expected)
