"""Reading files exactly or not at all, against Pillow as the one who wrote them."""

import errno
import io
import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_plugin.data.resize import DownscaledImage
from srgan_plugin.errors import PluginWarning, UserError
from srgan_plugin.io import images
from srgan_plugin.io.image_content import peek_size, read_image_content
from srgan_plugin.io.image_files import list_images
from srgan_plugin.io.images import decode_image, image_shape, read_image, read_source_image
from srgan_plugin.io.jpeg import estimate_quality
from srgan_plugin.io.lazy_image import CroppedImage, DecodedImage
from srgan_plugin.io.writers import encode_png, write_image

RGB = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
LOSSLESS = {
    "png": {"format": "PNG"},
    "bmp": {"format": "BMP"},
    "tif": {"format": "TIFF", "compression": "tiff_lzw"},
    "webp": {"format": "WEBP", "lossless": True},
}
LOSSY = {
    "jpg": {"format": "JPEG", "quality": 90},
    "progressive.jpg": {"format": "JPEG", "progressive": True},
    "lossy.webp": {"format": "WEBP", "quality": 80},
}


def encoded(image: np.ndarray, options: dict) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_file_gives_its_pixels_in_rgb_order(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"x.{name}"
    path.write_bytes(encoded(RGB, LOSSLESS[name]))
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_training_and_upscaling_see_the_same_pixels(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"x.{name}"
    path.write_bytes(encoded(RGB, (LOSSLESS | LOSSY)[name]))
    np.testing.assert_array_equal(read_image_content(path).pixels, read_image(path))


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_the_header_tells_the_shape_that_decoding_gives(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"x.{name}"
    path.write_bytes(encoded(RGB, (LOSSLESS | LOSSY)[name]))
    assert image_shape(path) == read_image(path).shape[:2] == (21, 34)


@pytest.mark.parametrize(
    ("name", "rotated"), [("png", False), ("jpg", False), ("webp", False), ("tif", True)]
)
def test_exif_orientation_is_applied_to_tiff_files_only(
    tmp_path: Path, name: str, rotated: bool
) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the first row of the file is the right column
    PIL.Image.fromarray(RGB).save(tmp_path / f"x.{name}", exif=exif)
    expected = (34, 21) if rotated else (21, 34)
    assert read_image(tmp_path / f"x.{name}").shape[:2] == expected
    assert image_shape(tmp_path / f"x.{name}") == expected


def test_a_webp_with_an_extended_header_tells_its_shape(tmp_path: Path) -> None:
    path = tmp_path / "x.webp"
    path.write_bytes(encoded(RGB, {"format": "WEBP", "exif": b"Exif\0\0" + bytes(40)}))
    assert path.read_bytes()[12:16] == b"VP8X"
    assert image_shape(path) == read_image(path).shape[:2] == (21, 34)


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_a_truncated_file_is_refused_by_name_wherever_it_ends(name: str) -> None:
    whole = encoded(RGB, (LOSSLESS | LOSSY)[name])
    lengths = {1, 3, 10, 13, 20, 30, len(whole) // 3, len(whole) // 2, len(whole) - 1}
    for length in lengths - ({len(whole) - 1} if name == "tif" else set()):
        with pytest.raises(UserError, match=r"^broken\.x: "):
            decode_image(whole[:length], "broken.x")


def test_a_jpeg_cut_behind_the_end_of_its_thumbnail_is_refused() -> None:
    thumbnail = encoded(RGB, LOSSY["jpg"])
    whole = encoded(RGB, LOSSY["jpg"] | {"exif": b"Exif\0\0" + thumbnail})
    np.testing.assert_array_equal(decode_image(whole + b"trailer", "x"), decode_image(whole, "x"))
    with pytest.raises(UserError, match=r"^x: .*truncated"):
        decode_image(whole[:-40], "x")


def test_a_png_with_a_flipped_bit_is_refused() -> None:
    broken = bytearray(encoded(RGB, LOSSLESS["png"]))
    broken[len(broken) // 2] ^= 1
    with pytest.raises(UserError, match=r"^x\.png.*truncated"):
        decode_image(bytes(broken), "x.png")


@settings(max_examples=200, deadline=None)
@given(data=st.data(), name=st.sampled_from([*LOSSLESS, *LOSSY]))
def test_a_mutilated_file_gives_an_image_or_a_value_error(data: st.DataObject, name: str) -> None:
    broken = bytearray(encoded(RGB, (LOSSLESS | LOSSY)[name]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(broken) - 1, 200)))
        broken[at] = data.draw(st.integers(0, 255))
    try:
        image = decode_image(bytes(broken[: data.draw(st.integers(0, len(broken)))]), "x")
    except ValueError as error:
        assert str(error).startswith("x: ")
        assert "\n" not in str(error)
    else:
        assert image.dtype == np.uint8
        assert image.shape[2] == 3


@pytest.mark.parametrize("name", ["png", "tif", "bmp"])
def test_grey_becomes_rgb_by_replication(name: str) -> None:
    image = decode_image(encoded(RGB[..., 0], LOSSLESS[name]), "x")
    np.testing.assert_array_equal(image, np.repeat(RGB[..., :1], 3, axis=2))


def test_an_opaque_alpha_is_dropped_and_a_transparent_one_refused() -> None:
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(decode_image(encoded(rgba, LOSSLESS["png"]), "x"), RGB)
    rgba[3, 4, 3] = 254
    with pytest.raises(UserError, match=r"^x\.png.*transparent"):
        decode_image(encoded(rgba, LOSSLESS["png"]), "x.png")


def test_sixteen_bits_become_eight_where_that_is_exact_and_are_refused_elsewhere() -> None:
    grey = RGB[..., 0].astype(np.uint16) * 257
    image = decode_image(encoded(grey, LOSSLESS["png"]), "x")
    np.testing.assert_array_equal(image[..., 1], RGB[..., 0])
    grey[0, 0] += 1
    with pytest.raises(UserError, match=r"^x\.png.*8 bits.*16-bit.*257"):
        decode_image(encoded(grey, LOSSLESS["png"]), "x.png")


def test_a_palette_is_resolved() -> None:
    palette = PIL.Image.fromarray(RGB).quantize(16)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode_image(buffer.getvalue(), "x"), expected)


@pytest.mark.parametrize("content", [b"", b"hello", b"GIF89a" + bytes(40), bytes(100)])
def test_what_is_no_image_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for read in (read_image, image_shape):
        with pytest.raises(UserError, match=r"x\.png.*expected PNG, JPEG"):
            read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x\.png"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("level", [0, 1, 9])
def test_what_is_encoded_as_png_is_read_back_by_another_reader(level: int) -> None:
    decoded = PIL.Image.open(io.BytesIO(encode_png(RGB, level)))
    np.testing.assert_array_equal(np.asarray(decoded), RGB)


def test_a_written_file_is_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.png"
    write_image(path, RGB)
    write_image(path, RGB[::-1])
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(path)), RGB[::-1])
    assert [file.name for file in path.parent.iterdir()] == ["x.png"]
    with pytest.raises(UserError, match=r"x\.jpg.*\.png"):
        write_image(tmp_path / "x.jpg", RGB)


def test_images_are_listed_by_key_with_nested_folders_and_without_hidden_files(
    tmp_path: Path,
) -> None:
    for name in ("b/2.PNG", "b/10.jpg", "1.webp", "a.1.png", ".hidden.png", ".d/3.png", "x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = list_images(tmp_path)
    assert list(found) == ["1", "a.1", "b/10", "b/2"]
    assert found["b/2"] == tmp_path / "b" / "2.PNG"


def test_two_files_of_one_key_and_an_empty_and_a_missing_folder_are_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=r"\.png, .*\.webp"):
        list_images(tmp_path)
    (tmp_path / "1.png").touch()
    (tmp_path / "1.jpg").touch()
    with pytest.raises(UserError, match=r"1\.jpg.*1\.png"):
        list_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list_images(tmp_path / "nowhere")


def close_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int = errno.EACCES) -> None:
    """Let `os.scandir` refuse a folder, as root may read all of them."""
    scandir = os.scandir

    def guarded(path):
        if Path(path) == folder:
            raise OSError(number, os.strerror(number), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)


def test_a_folder_below_that_cannot_be_read_is_named_and_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "lost+found/b.png", "z/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    close_folder(tmp_path / "lost+found", monkeypatch)
    with pytest.warns(PluginWarning, match=r"lost\+found: .*Permission denied") as caught:
        assert list(list_images(tmp_path)) == ["a", "z/c"]
    assert len(caught) == 1


@pytest.mark.parametrize(("name", "number"), [(".", errno.EACCES), ("below", errno.EIO)])
def test_a_folder_that_itself_is_forbidden_or_a_defect_disk_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "a.png").touch()
    close_folder(tmp_path / name, monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        list_images(tmp_path)
    assert caught.value.errno == number


def test_a_jpeg_in_cmyk_is_refused_by_name() -> None:
    buffer = io.BytesIO()
    PIL.Image.fromarray(RGB).convert("CMYK").save(buffer, "JPEG")
    with pytest.raises(UserError, match=r"^x: .*RGB.*got CMYK"):
        decode_image(buffer.getvalue(), "x")


def special(path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(
            {"device": "/dev/zero", "a link to nothing": "nowhere"}.get(kind, path.name)
        )


@pytest.mark.skipif(os.name == "nt", reason="no special files")
@pytest.mark.parametrize("kind", ["pipe", "device", "a link to nothing", "levels of symbolic"])
def test_what_only_has_an_images_name_is_refused_unopened(tmp_path: Path, kind: str) -> None:
    special(tmp_path / "x.png", kind)
    (tmp_path / "good.png").write_bytes(encoded(RGB, LOSSLESS["png"]))
    with pytest.raises(UserError, match=rf"x\.png.*{kind}"):
        list_images(tmp_path)
    for read in (read_image, read_source_image, read_image_content, image_shape, peek_size):
        with pytest.raises((UserError, OSError), match=r"x\.png"):
            read(tmp_path / "x.png")


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_each_folder_is_listed_once_however_links_lead_to_it(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "a" / "images", tmp_path / "elsewhere"
    for place in (folder / "real", elsewhere):
        place.mkdir(parents=True)
        (place / "1.png").touch()
    links = {"again": folder, "up": tmp_path, "a": "real", "b": elsewhere, "c": elsewhere}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    (elsewhere / "back").symlink_to(folder)
    assert list(list_images(folder)) == ["b/1", "real/1"]


def png_of_size(width: int, height: int) -> bytes:
    png = encoded(RGB, LOSSLESS["png"])
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def jpeg_of_size(width: int, height: int) -> bytes:
    jpeg = bytearray(encoded(RGB, LOSSY["jpg"]))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, height, width)
    return bytes(jpeg)


def tiff_of_size(width: int, height: int) -> bytes:
    tiff = bytearray(encoded(RGB, {"format": "TIFF"}))
    for tag, size in ((256, width), (257, height)):
        struct.pack_into("<I", tiff, tiff.index(struct.pack("<HH", tag, 4)) + 8, size)
    return bytes(tiff)


def webp_of_size(width: int, height: int) -> bytes:
    webp = bytearray(encoded(RGB * 0, LOSSLESS["webp"]))
    struct.pack_into("<I", webp, 21, (height - 1) << 14 | (width - 1))
    return bytes(webp)


@pytest.mark.parametrize("make", [png_of_size, jpeg_of_size, tiff_of_size, webp_of_size])
@pytest.mark.parametrize("size", [(12_000, 12_000), (16_384, 16_384), (65_500, 65_500)])
def test_a_size_that_the_file_cannot_hold_is_refused_before_it_is_decoded(
    tmp_path: Path, make, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if make is webp_of_size and size > (16_384, 16_384):
        pytest.skip("WebP's limit")
    (tmp_path / "x.png").write_bytes(make(*size))
    monkeypatch.setattr(images, "opencv_decode", None)
    for read in (read_image, read_source_image, read_image_content):
        with pytest.raises(UserError, match=rf"x\.png: .*{size[0]}x{size[1]}"):
            read(tmp_path / "x.png")


def test_the_largest_size_is_an_environment_variables(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encoded(RGB, LOSSLESS["png"]))
    code = f"from srgan_plugin.io.images import read_image; read_image({str(tmp_path / 'x.png')!r})"
    for value, said in (("714", ""), ("713", "21x34.*SRGAN_MAX_PIXELS"), ("x", "got 'x'")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"SRGAN_MAX_PIXELS": value},
            capture_output=True,
            text=True,
            check=False,
        )
        assert bool(done.returncode) == bool(said)
        assert all(part in done.stderr for part in said.split(".*"))


AVIF_HEAD = b"\0\0\0\x1cftypavif" + bytes(16)


@pytest.mark.parametrize("make", [bytes, lambda: webp_of_size(34, 21), lambda: AVIF_HEAD])
def test_an_endless_hole_is_not_read(tmp_path: Path, make, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.png").write_bytes(make())
    os.truncate(tmp_path / "x.png", 2**40)
    monkeypatch.setattr(Path, "open", None)
    for read in (read_image, read_image_content, peek_size):
        with pytest.raises(UserError, match=r"x\.png.*1099511627776 bytes"):
            read(tmp_path / "x.png")


@pytest.mark.parametrize("kind", ["VP8", "VP8L", "VP8X"])
@pytest.mark.parametrize("size", [(34, 21), (1, 1), (300, 16_383)])
def test_the_size_of_a_webp_image_is_read_from_its_first_30_bytes(
    tmp_path: Path, kind: str, size: tuple[int, int]
) -> None:
    options = {"VP8": {}, "VP8L": {"lossless": True}, "VP8X": {"xmp": b"x"}}[kind]
    buffer = io.BytesIO()
    PIL.Image.new("RGB", size).save(buffer, "WEBP", **options)
    assert buffer.getvalue()[12:16] == kind.ljust(4).encode()
    (tmp_path / "x.webp").write_bytes(buffer.getvalue()[:30])
    assert peek_size(tmp_path / "x.webp") == (size[1], size[0])
    (tmp_path / "x.webp").write_bytes(buffer.getvalue()[:29])
    with pytest.raises(UserError, match=r"x\.webp.*truncated"):
        peek_size(tmp_path / "x.webp")


def test_a_webp_image_over_the_limit_is_refused_for_its_size_before_pillow_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRGAN_MAX_PIXELS", "1000")
    (tmp_path / "x.webp").write_bytes(webp_of_size(14_000, 14_000))
    for read in (read_image, read_source_image, read_image_content):
        with pytest.raises(UserError, match=r"x\.webp: .*14000x14000.*SRGAN_MAX_PIXELS"):
            read(tmp_path / "x.webp")


def other_kinds() -> dict[str, bytes]:
    image = PIL.Image.fromarray(RGB)

    def saved(mode: str, form: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        image.convert(mode).save(buffer, form, **options)
        return buffer.getvalue()

    several = {"save_all": True, "append_images": [PIL.Image.fromarray(RGB[::-1])]}
    lab = PIL.Image.fromarray(RGB).convert("RGB")
    buffer = io.BytesIO()
    PIL.Image.frombytes("LAB", lab.size, lab.tobytes()).save(buffer, "TIFF")
    return {
        **{f"2 frames or pages {form}": saved("RGB", form, **several) for form in ("PNG", "WEBP")},
        "2 frames or pages": saved("RGB", "TIFF", **several),
        "CMYK": saved("CMYK", "TIFF"),
        "YCbCr": saved("YCbCr", "TIFF"),
        "LAB": buffer.getvalue(),
    }


@pytest.mark.parametrize("what", other_kinds())
def test_training_refuses_what_upscaling_refuses(tmp_path: Path, what: str) -> None:
    (tmp_path / "x.png").write_bytes(other_kinds()[what])
    said = r"x\.png.*" + what.removesuffix(" PNG").removesuffix(" WEBP")
    for read in (read_image, read_image_content):
        with pytest.raises(UserError, match=said):
            read(tmp_path / "x.png")


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_colour_that_means_transparency_is_refused_where_it_occurs(mode: str) -> None:
    image = PIL.Image.fromarray(RGB // 2)
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    for transparency, refused in ((image.getpixel((3, 3)), True), ((255,) * 3, False)):
        buffer = io.BytesIO()
        key = transparency if mode == "RGB" or isinstance(transparency, int) else 255
        image.save(buffer, "PNG", transparency=key)
        if refused:
            with pytest.raises(UserError, match=r"^x: .*transparent"):
                decode_image(buffer.getvalue(), "x")
        else:
            np.testing.assert_array_equal(
                decode_image(buffer.getvalue(), "x"), np.asarray(image.convert("RGB"))
            )


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 90},
        {"quality": 80, "progressive": True},
        {"quality": 85, "restart_marker_blocks": 3},
        {"quality": 85, "restart_marker_rows": 1, "subsampling": 0},
    ],
)
@pytest.mark.parametrize("grey", [False, True])
def test_a_jpeg_cut_in_its_pixels_and_closed_is_refused(
    tmp_path: Path, options: dict, grey: bool
) -> None:
    flat = np.concatenate([RGB, RGB * 0 + 128])  # what a reader makes up is flat, too
    whole = encoded(flat[..., 0] if grey else flat, {"format": "JPEG"} | options)
    path, start = tmp_path / "x.jpg", whole.index(b"\xff\xda") + 14
    for content in (whole, whole + b"trailer"):
        path.write_bytes(content)
        np.testing.assert_array_equal(read_source_image(path), read_image(path))
        assert read_image_content(path).pixels.shape[:2] == flat.shape[:2]
    for at in np.linspace(start, len(whole) - 4, 9).astype(int):
        path.write_bytes(whole[:at].rstrip(b"\xff") + b"\xff\xd9")
        for read in (read_source_image, read_image_content):
            with pytest.raises(UserError, match=r"x\.jpg.*truncated"):
                read(path)


SMOOTH = np.add.outer(np.arange(42) * 2, np.arange(60) * 3)[..., None] + np.uint8([0, 20, 40])


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("webp", {"format": "WEBP", "quality": 80}),
        ("webp", {"format": "WEBP", "lossless": True}),
        ("tif", {"format": "TIFF", "compression": "tiff_lzw"}),
        ("tif", {"format": "TIFF", "compression": "tiff_adobe_deflate"}),
        ("bmp", {"format": "BMP"}),
    ],
)
def test_pixels_that_opencv_would_make_up_are_refused(
    tmp_path: Path, suffix: str, options: dict
) -> None:
    whole = bytearray(encoded(SMOOTH.astype(np.uint8), options))
    path = tmp_path / f"x.{suffix}"
    if suffix == "bmp":
        del whole[-500:]
    elif options.get("quality"):
        del whole[len(whole) // 4 * 2 :]
        struct.pack_into("<I", whole, 4, len(whole) - 8)
        struct.pack_into("<I", whole, 16, len(whole) - 20)
    else:
        middle = len(whole) // 2 - 60 * (suffix == "tif")  # its header is at the end
        whole[middle : middle + 40] = bytes(40)
    path.write_bytes(whole)
    for read in (read_image, read_source_image, read_image_content):
        with pytest.raises(UserError, match=rf"x\.{suffix}"):
            read(path)


def test_an_image_that_two_readers_decode_differently_is_refused(tmp_path: Path) -> None:
    palette = PIL.Image.fromarray(RGB).convert("P")
    buffer = io.BytesIO()
    palette.save(buffer, "BMP")
    whole = bytearray(buffer.getvalue())
    assert struct.unpack_from("<I", whole, 10)[0] > 0
    struct.pack_into("<I", whole, 10, 0)  # where its pixels begin: both readers take a guess
    (tmp_path / "x.bmp").write_bytes(whole)
    with pytest.raises(UserError, match=r"x\.bmp"):
        read_image(tmp_path / "x.bmp")
    buffer = io.BytesIO()
    palette.save(buffer, "TIFF")
    place = buffer.getvalue().rindex(struct.pack("<HHI", 320, 3, 768))  # its colours
    whole = bytearray(buffer.getvalue())
    struct.pack_into("<I", whole, place + 4, 767)
    (tmp_path / "x.tif").write_bytes(whole)
    with pytest.raises(UserError, match=r"x\.tif"):
        read_image(tmp_path / "x.tif")


def test_a_chunk_of_a_png_file_that_claims_gigabytes_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)
    png = encoded(RGB, LOSSLESS["png"])
    at = png.index(b"IDAT") + 4
    claim = struct.pack(">I", 2**32 - 200) + b"tEXt"
    (tmp_path / "x.png").write_bytes(png[: at - 8] + claim + png[at - 8 :])
    with pytest.raises(UserError, match=r"x\.png"):
        read_image(tmp_path / "x.png")


def test_damaged_pixels_of_an_animation_of_one_frame_are_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    rows = b"".join(b"\0" + row.tobytes() for row in RGB)
    packed = zlib.compress(rows)
    packed = packed[:-4] + bytes([packed[-4] ^ 1]) + packed[-3:]  # its checksum is of others
    height, width, _ = RGB.shape
    frame = struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 0, 0, 0, 0)
    parts = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        chunk(b"acTL", struct.pack(">II", 1, 0)),
        chunk(b"fcTL", frame),
        chunk(b"IDAT", packed),
        chunk(b"IEND", b""),
    ]
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(UserError, match=r"x\.png"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("kinds", ["IEND", "tRNS tRNS IDAT IEND", "IDAT tRNS IEND"])
def test_a_png_file_without_pixels_or_with_transparency_twice_or_late_is_refused(
    tmp_path: Path, kinds: str
) -> None:
    palette = PIL.Image.fromarray(RGB).convert("P")
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=bytes([255] * 256))
    whole, at, chunks = buffer.getvalue(), 8, {}
    while at < len(whole):
        end = at + 12 + struct.unpack_from(">I", whole, at)[0]
        chunks[whole[at + 4 : at + 8].decode()] = whole[at:end]
        at = end
    (tmp_path / "x.png").write_bytes(
        whole[:8] + b"".join(chunks[kind] for kind in f"IHDR PLTE {kinds}".split()) + bytes(99)
    )
    for read in (read_image, read_image_content):
        with pytest.raises(UserError, match=r"x\.png"):
            read(tmp_path / "x.png")


def test_damage_that_pillow_meets_with_an_error_of_any_kind_is_named(tmp_path: Path) -> None:
    png = encoded(RGB, LOSSLESS["png"])
    # A colour profile of no bytes: Pillow raises IndexError.
    chunk = struct.pack(">I", 0) + b"iCCP" + struct.pack(">I", zlib.crc32(b"iCCP"))
    for at in (33, png.index(b"IEND") - 4):
        (tmp_path / "x.png").write_bytes(png[:at] + chunk + png[at:])
        with pytest.raises(UserError, match=r"x\.png"):
            read_image_content(tmp_path / "x.png")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize(
    "soak",
    [
        ["hostile_images.py", "--count", "9", "--seed", "2"],
        ["full_disk.py", "--writers", "store raw"],
        ["fuzz.py", "--count", "400", "--seed", "1"],
    ],
    ids=["hostile images", "full disk", "fuzz"],
)
def test_the_short_forms_of_the_soaks_find_nothing(soak: list[str]) -> None:
    folder = Path(__file__).resolve().parents[1] / "soak"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(folder / soak[0]), *soak[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_threads_that_read_at_once_leave_pillow_s_own_limit_as_it_was(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", np.zeros((4, 4, 3), np.uint8))
    before = PIL.Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(peek_size, [tmp_path / "x.png"] * 3000))
    assert before == PIL.Image.MAX_IMAGE_PIXELS


def test_an_image_smaller_than_the_multiple_that_it_is_cropped_to_is_named() -> None:
    image = CroppedImage(DecodedImage("x.png", lambda: np.zeros((10, 20, 3), np.uint8)), 16)
    for small in (image, DownscaledImage(image, 4)):
        with pytest.raises(
            UserError, match=r"x\.png: expected at least 16x16, got a smaller image"
        ):
            np.asarray(small)
    with pytest.raises(ValueError, match="step 1"):
        CroppedImage(DecodedImage("x.png", lambda: np.zeros((16, 16, 3), np.uint8)), 4)[::2, :]


def test_the_quality_of_a_jpeg_is_that_it_was_saved_with(tmp_path):
    path = tmp_path / "image.jpg"
    for quality in range(20, 100):
        PIL.Image.fromarray(RGB).save(path, quality=quality)
        assert estimate_quality(path) == quality
        cv2.imwrite(str(path), RGB, [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert estimate_quality(path) == quality
    PIL.Image.fromarray(RGB[..., 0]).save(path, quality=100)
    assert estimate_quality(path) == 99
    PIL.Image.fromarray(RGB).save(path, quality=1)
    assert estimate_quality(path) < 15  # libjpeg's tables end at 255
    PIL.Image.fromarray(RGB).save(path, qtables="web_low")  # of another program
    assert 40 < estimate_quality(path) < 60


def test_what_is_no_jpeg_has_no_quality(tmp_path):
    names = ("image.png", "text.jpg", "cut.jpg", "empty.jpg", "none", "cmyk.jpg")
    files = [tmp_path / name for name in names]
    PIL.Image.fromarray(RGB).convert("CMYK").save(files[5])
    PIL.Image.fromarray(RGB).save(files[0])
    files[1].write_text("text")
    PIL.Image.fromarray(RGB).save(files[2])
    files[2].write_bytes(files[2].read_bytes()[:30])
    files[3].touch()
    assert [estimate_quality(path) for path in files] == [None] * 6
