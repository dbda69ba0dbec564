"""Copies of photographs: other scales, angles and colours, without undefined pixels."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo.augmentation import COPIES, MIN_DETAIL, SIDE, copies, inner_size, rotate, write_copies
from zoo.photographs import detail

from srgan_plugin.data.resize import imresize
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image


def fits(inner, outer, angle):
    """Whether an upright rectangle lies inside a rotated one, both around one center."""
    cosine, sine = math.cos(angle), math.sin(angle)
    corners = [(x * inner[0] / 2, y * inner[1] / 2) for x in (-1, 1) for y in (-1, 1)]
    return all(
        abs(x * cosine + y * sine) <= outer[0] / 2 and abs(y * cosine - x * sine) <= outer[1] / 2
        for x, y in corners
    )


@given(st.integers(64, 3000), st.integers(64, 3000), st.floats(-math.pi / 4, math.pi / 4))
def test_the_inner_rectangle_lies_in_the_rotated_one_and_no_larger_one_does(width, height, angle):
    wide, high = inner_size(width, height, angle)
    assert fits((wide, high), (width, height), angle)
    area = (wide + 5) * (high + 5)  # more than before the margin was deducted
    shapes = [area * factor for factor in np.geomspace(0.25, 4, 41)]
    others = [(math.sqrt(s * 1.05), area * 1.05 / math.sqrt(s * 1.05)) for s in shapes]
    assert not any(fits(other, (width, height), angle) for other in others)


@pytest.mark.parametrize("angle", [-0.7, -0.2, 0.01, 0.4, math.pi / 4])
@pytest.mark.parametrize("size", [(200, 300), (300, 200), (240, 240)])
def test_a_rotated_image_is_the_scene_seen_at_an_angle(size, angle):
    rows, columns = np.indices(size) - np.reshape([(side - 1) / 2 for side in size], (2, 1, 1))
    frequency = 0.1  # a plane wave, whose direction turns with the image
    image = np.rint(127 + 100 * np.cos(frequency * columns)).astype(np.uint8)
    turned = rotate(np.repeat(image[..., None], 3, axis=2), angle)
    rows, columns = (
        index - (side - 1) / 2
        for index, side in zip(np.indices(turned.shape[:2]), turned.shape[:2], strict=True)
    )
    # A crop of another parity than the image has its center half a pixel off.
    shift = [(side - part) / 2 % 1 for side, part in zip(size, turned.shape, strict=False)]
    along = (columns - shift[1]) * math.cos(angle) - (rows - shift[0]) * math.sin(angle)
    assert np.abs(turned[..., 0] - (127 + 100 * np.cos(frequency * along))).max() < 4


@pytest.mark.parametrize(("size", "scale"), [((400, 500), 1.0), ((910, 920), 0.6)])
def test_the_first_copy_is_upright_and_later_ones_have_permuted_channels(textured, size, scale):
    image = textured(*size)
    image[..., 1], image[..., 2] = image[..., 0] // 2, image[..., 0] // 4
    found = list(copies(image, "a"))
    assert len(found) == COPIES
    assert np.array_equal(found[0], image if scale == 1 else imresize(image, scale))
    share = 0.95 if scale == 1 else 0.8
    for copy in found[1:]:
        assert all(
            side <= share * of + 1 for side, of in zip(copy.shape[:2], image.shape[:2], strict=True)
        )
    brightest = [int(copy.mean((0, 1)).argmax()) for copy in found]
    assert brightest[:2] == [0, 0]
    orders = {tuple(np.argsort(copy.mean((0, 1)))) for copy in found[2:]}
    assert len(orders) > 1
    assert all(np.array_equal(a, b) for a, b in zip(found, copies(image, "a"), strict=True))
    assert not np.array_equal(found[1][:100, :100], list(copies(image, "b"))[1][:100, :100])


def test_more_copies_begin_with_the_same_ones(textured):
    few, more = (list(copies(textured(300, 300), "a", count)) for count in (3, 7))
    assert len(more) == 7
    assert all(np.array_equal(a, b) for a, b in zip(few, more, strict=False))


def test_pieces_of_the_photographs_themselves_are_written_if_they_are_large(tmp_path, textured):
    for name, size in (("small", (400, 420)), ("large", (910, 920))):
        write_image(tmp_path / f"{name}.png", textured(*size))
    photographs = [tmp_path / "small.png", tmp_path / "large.png"]
    write_copies(photographs, tmp_path / "pieces", count=1, originals=True)
    names = {path.stem.rsplit("_", 2)[0] for path in (tmp_path / "pieces").iterdir()}
    assert names == {"small_0", "large_0", "large_original"}
    piece = read_image(tmp_path / "pieces/large_original_0_0.png")
    assert np.array_equal(piece, read_image(tmp_path / "large.png")[:SIDE, :SIDE])


def test_pieces_cover_the_copies_and_flat_ones_are_left_out(tmp_path, textured):
    image = textured(400, 600)
    image[:, 300:] = 90
    write_image(tmp_path / "x.png", image)
    write_copies([tmp_path / "x.png"], tmp_path / "pieces")
    names = [path.stem.split("_") for path in (tmp_path / "pieces").iterdir()]
    upright = {(int(top), int(left)) for _, number, top, left in names if number == "0"}
    # 600 pixels take three pieces from 0, 204 and 408; the last one is flat.
    assert upright == {(top, left) for top in (0, 208) for left in (0, 204)}
    for path in (tmp_path / "pieces").iterdir():
        piece = read_image(path)
        assert piece.shape == (SIDE, SIDE, 3)
        assert detail(piece) >= MIN_DETAIL


def test_a_photograph_smaller_than_a_piece_has_none(tmp_path, textured):
    for number, size in enumerate(((6, 900), (5, 5), (192, 1))):
        write_image(tmp_path / f"small/{number}.png", textured(*size))
    write_copies(sorted((tmp_path / "small").iterdir()), tmp_path / "pieces")
    assert list((tmp_path / "pieces").iterdir()) == []
