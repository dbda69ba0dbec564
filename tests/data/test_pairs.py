"""Pairs from folders, stores and photographs alone: the same pictures, in the same order."""

import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from srgan_plugin.data.pairs import ImagePairs, open_images
from srgan_plugin.data.prepare.stores import create_store
from srgan_plugin.errors import UserError
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image

from .conftest import SIZES, noise


@pytest.fixture(scope="module")
def all_pairs(
    gt_folder: Path, lr_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ImagePairs]:
    folder = tmp_path_factory.mktemp("stores")
    create_store(gt_folder, folder / "raw", layout="raw", workers=1)
    create_store(gt_folder, folder / "png", layout="png", lr_dir=lr_folder, workers=1)
    return {
        "folders": ImagePairs(gt_folder, lr_folder),
        "photographs": ImagePairs(gt_folder),
        "raw": ImagePairs(folder / "raw"),
        "png": ImagePairs(folder / "png"),
        "gt store alone": ImagePairs(folder / "raw" / "GT.lmdb"),
        "mixed": ImagePairs(folder / "png" / "GT.lmdb", lr_folder),
    }


def test_every_source_gives_the_same_pairs_in_the_same_order(
    all_pairs: dict[str, ImagePairs],
) -> None:
    reference = all_pairs["folders"]
    assert reference.keys == tuple(SIZES)
    assert len(reference) == 3
    for pairs in all_pairs.values():
        assert pairs.keys == reference.keys
        for pair, expected in zip(map(pairs.__getitem__, range(3)), reference, strict=True):
            assert pair.key == expected.key
            for image, wanted in ((pair.lr, expected.lr), (pair.gt, expected.gt)):
                assert image.shape == wanted.shape == np.asarray(wanted).shape
                np.testing.assert_array_equal(np.asarray(image), np.asarray(wanted))
                np.testing.assert_array_equal(image[3:8, 2:9], np.asarray(wanted)[3:8, 2:9])


def test_the_origin_of_the_lr_is_told_in_words(all_pairs: dict[str, ImagePairs]) -> None:
    origins = {name: pairs.lr_origin for name, pairs in all_pairs.items()}
    made = {"photographs", "gt store alone"}
    assert {name for name, origin in origins.items() if origin == "MATLAB bicubic of GT"} == made
    assert {origins[name] for name in origins.keys() - made} == {"given"}


def test_pairs_survive_pickling_and_stay_small(all_pairs: dict[str, ImagePairs]) -> None:
    for pairs in all_pairs.values():
        np.asarray(pairs[0].gt)
        packed = pickle.dumps(pairs)
        assert len(packed) < 4000
        np.testing.assert_array_equal(
            np.asarray(pickle.loads(packed)[0].lr), np.asarray(pairs[0].lr)
        )


def test_photographs_alone_are_cropped_to_a_multiple_of_the_scale(tmp_path: Path) -> None:
    image = noise(31, 50)
    write_image(tmp_path / "x.png", image)
    _, lr, gt = ImagePairs(tmp_path, scale=3)[0]
    assert (lr.shape, gt.shape) == ((10, 16, 3), (30, 48, 3))
    np.testing.assert_array_equal(np.asarray(gt), image[:30, :48])
    np.testing.assert_array_equal(gt[20:99, 40:99], image[20:30, 40:48])


def test_an_image_is_decoded_once_and_only_when_asked_for(
    gt_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    monkeypatch.setattr(
        "srgan_plugin.data.pairs.read_source_image",
        lambda path: reads.append(path) or noise(48, 64),
    )
    pair = ImagePairs(gt_folder)[0]
    assert reads == []
    for _ in range(3):
        assert pair.lr[:4, :4].shape == pair.gt[:4, :4].shape
    assert len(reads) == 1


def test_a_jpeg_cut_in_its_pixels_is_found_when_it_is_first_read_and_not_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok, whole = cv2.imencode(".jpg", noise(48, 64))
    assert ok
    for name, content in (("good", whole.tobytes()), ("cut", whole.tobytes()[:-40] + b"\xff\xd9")):
        (tmp_path / f"{name}.jpg").write_bytes(content)
    source = open_images(tmp_path)
    for _ in range(2):
        with pytest.raises(UserError, match=r"cut\.jpg.*before its last pixel"):
            np.asarray(source["cut"])
    first = np.asarray(source["good"])
    monkeypatch.setattr("srgan_plugin.data.pairs.read_source_image", None)
    np.testing.assert_array_equal(source["good"], first)
    np.testing.assert_array_equal(first, read_image(tmp_path / "good.jpg"))


def test_an_annotation_file_chooses_images(
    all_pairs: dict[str, ImagePairs], gt_folder: Path, lr_folder: Path, tmp_path: Path
) -> None:
    chosen = tmp_path / "list.txt"
    chosen.write_text("c.png (72,36,3)\n\na.png (48,64,3)\n")
    for gt, lr in (
        (gt_folder, lr_folder),
        (gt_folder, None),
        (all_pairs["raw"].gt.path.parent, None),
    ):
        pairs = ImagePairs(gt, lr, ann_file=chosen)
        assert pairs.keys == ("a", "c")
        assert pairs[1].gt.shape == (72, 36, 3)
        assert pairs[1].lr.shape == (18, 9, 3)
    chosen.write_text("z.png (1,1,3)\n")
    with pytest.raises(UserError, match=r"list\.txt: .*gt\d*, got z;"):
        ImagePairs(gt_folder, ann_file=chosen)
    with pytest.raises(FileNotFoundError, match=r"no\.txt"):
        ImagePairs(gt_folder, ann_file=tmp_path / "no.txt")


def test_only_a_size_is_cut_off_a_line_of_an_annotation_file(tmp_path: Path) -> None:
    names = ["photo (1)", "photo (2)", "view (3,4)", "my cat"]
    for name in names:
        write_image(tmp_path / f"{name}.png", noise(48, 48))
    chosen = tmp_path / "list.txt"
    sizes = (" (48,48,3)", "", " (48, 48) more", "")
    lines = (f"{name}.png{size}" for name, size in zip(names, sizes, strict=True))
    chosen.write_text("\n".join(lines))
    assert ImagePairs(tmp_path, ann_file=chosen).keys == tuple(sorted(names))


def test_a_name_without_suffix_in_an_annotation_file_may_contain_a_dot(tmp_path: Path) -> None:
    for name in ("a.b", "a"):
        write_image(tmp_path / f"{name}.png", noise(48, 48))
    for line, key in (("a.b", "a.b"), ("a.b.png", "a.b"), ("a", "a"), ("a.png", "a")):
        (tmp_path / "list.txt").write_text(line)
        assert ImagePairs(tmp_path, ann_file=tmp_path / "list.txt").keys == (key,)


def test_without_nested_folders_those_of_lr_are_skipped_as_well(tmp_path: Path) -> None:
    for side, size in (("gt", 8), ("lr", 2)):
        for name in ("a", "below/b"):
            write_image(tmp_path / side / f"{name}.png", noise(size, size))
    assert ImagePairs(tmp_path / "gt", tmp_path / "lr", nested=False).keys == ("a",)
    assert ImagePairs(tmp_path / "gt", tmp_path / "lr").keys == ("a", "below/b")


def test_names_that_do_not_pair_up_are_told_with_both_folders(
    gt_folder: Path, lr_folder: Path, tmp_path: Path
) -> None:
    lr = shutil.copytree(lr_folder, tmp_path / "lr")
    (lr / "ax4.png").rename(lr / "d.png")
    with pytest.raises(UserError, match=r"\ba of .*gt.*\bd of .*lr.*gt"):
        ImagePairs(gt_folder, lr)


def test_only_the_first_names_of_many_are_told(tmp_path: Path) -> None:
    for folder, count in (("gt", 9), ("lr", 1)):
        for number in range(count):
            write_image(tmp_path / folder / f"{number}.png", noise(4, 4))
    with pytest.raises(UserError, match=r"1, 2, 3 and 5 more of .*gt"):
        ImagePairs(tmp_path / "gt", tmp_path / "lr", scale=1)


def test_sizes_that_do_not_fit_are_told_at_access_by_folders_and_at_opening_by_stores(
    tmp_path: Path,
) -> None:
    message = r"\bx\b.*: expected 4 times the 10x11 of .*\bx\b.*, got 40x40"
    for name, width in (("gt", 40), ("lr", 11)):
        write_image(tmp_path / name / "x.png", noise(40 if name == "gt" else 10, width))
        create_store(tmp_path / name, tmp_path / f"{name}s", scale=1, workers=1)
    pairs = ImagePairs(tmp_path / "gt", tmp_path / "lr")
    with pytest.raises(UserError, match=message):
        pairs[0]
    with pytest.raises(UserError, match=message):
        ImagePairs(tmp_path / "gts" / "GT.lmdb", tmp_path / "lrs" / "GT.lmdb")


def test_a_missing_folder_and_a_missing_scale_are_told(
    tmp_path: Path, all_pairs: dict[str, ImagePairs]
) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_images(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.lmdb"):
        ImagePairs(tmp_path / "nowhere.lmdb")
    with pytest.raises(UserError, match=r"LRx2\.lmdb.*LRx4\.lmdb"):
        ImagePairs(all_pairs["raw"].gt.path.parent, scale=2)
    (tmp_path / "x.lmdb").mkdir()
    with pytest.raises(UserError, match=r"x\.lmdb.*data\.mdb"):
        open_images(tmp_path / "x.lmdb")


def test_a_list_that_is_not_utf_8_is_named(gt_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfea.png")
    with pytest.raises(UserError, match=r"list\.txt.*UTF-8"):
        ImagePairs(gt_folder, ann_file=tmp_path / "list.txt")
