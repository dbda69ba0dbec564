"""The photographs: which are held out, and which pieces of the others are learned from."""

import numpy as np
import pytest
from zoo.photographs import HELD_OUT, detail, link, split, write_pieces

from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image


def folder_of(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_the_held_out_photographs_are_the_same_ones_wherever_they_lie(tmp_path):
    flat = folder_of(tmp_path / "flat", [f"{n:03d}.webp" for n in range(288)])
    nested = folder_of(tmp_path / "b", [f"{n % 3}/{n:03d}.webp" for n in reversed(range(288))])
    training, held_out = split(flat)
    assert [path.name for path in held_out] == [f"{n:03d}.webp" for n in range(0, 288, 18)]
    assert [[path.name for path in part] for part in split(nested)] == [
        [path.name for path in part] for part in (training, held_out)
    ]


@pytest.mark.parametrize("count", [32, 33, 47, 100])
def test_nothing_is_both_held_out_and_learned_from(tmp_path, count):
    training, held_out = split(folder_of(tmp_path, [f"{n}.png" for n in range(count)]))
    assert len(held_out) == HELD_OUT
    assert len(training) == count - HELD_OUT
    assert not set(training) & set(held_out)


def test_too_few_photographs_and_two_of_one_name_are_refused(tmp_path):
    few = folder_of(tmp_path / "few", [f"{n}.png" for n in range(31)])
    with pytest.raises(ValueError, match=r"few: .*32 .*got 31"):
        split(few)
    names = [f"a/{n}.png" for n in range(32)]
    with pytest.raises(ValueError, match=r"a/7\.png.*b/7\.png"):
        split(folder_of(tmp_path / "twice", [*names, "b/7.png"]))


def test_links_lead_to_the_photographs(tmp_path, textured):
    write_image(tmp_path / "x.png", textured(24, 36))
    link([tmp_path / "x.png"], tmp_path / "links")
    assert np.array_equal(read_image(tmp_path / "links/x.png"), textured(24, 36))


def test_detail_is_the_mean_step_of_the_halved_grey_image_and_blind_to_fine_noise(textured):
    image = textured(240, 240)
    grey = np.rint(image @ np.array([0.299, 0.587, 0.114]))
    half = grey.reshape(120, 2, 120, 2).mean((1, 3))
    by_hand = np.abs(half[1:] - half[:-1]).mean() + np.abs(half[:, 1:] - half[:, :-1]).mean()
    assert detail(image) == pytest.approx(by_hand, abs=0.1)  # it is rounded on the way
    board = np.indices((240, 240)).sum(0) % 2 * 8
    noisy = np.repeat((120 + board)[..., None], 3, axis=2).astype(np.uint8)
    assert detail(noisy) == 0


def test_the_richest_pieces_are_written_as_they_are_and_flat_ones_are_not(tmp_path, textured):
    image = textured(500, 730)
    image[:240, :240] = 90
    image[240:480, 480:720] = 90
    write_image(tmp_path / "a.png", image)
    write_pieces([tmp_path / "a.png"], tmp_path / "pieces")
    written = {path.stem: read_image(path) for path in (tmp_path / "pieces").iterdir()}
    assert len(written) == 3  # of six
    assert not {"a_0_0", "a_240_480"} & set(written)
    for name, piece in written.items():
        top, left = map(int, name.split("_")[1:])
        assert np.array_equal(piece, image[top : top + 240, left : left + 240])
