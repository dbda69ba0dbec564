"""Test upscaling of files: formats against Pillow and OpenCV, folders, bad files, full disks."""

import errno
import io
import os
import resource
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from srgan_plugin.__main__ import main
from srgan_plugin.errors import UserError
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.io.image_content import read_image_content
from srgan_plugin.io.writers import WRITABLE_SUFFIXES, ImageSpec, check_target, write_strips
from srgan_plugin.networks import MSRResNet, SRResNet

RGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = RGB_PROFILE[:16] + b"GRAY" + RGB_PROFILE[20:]
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def smooth(height, width, channels):
    """Return a smooth image, which a lossy format hardly changes."""
    coarse = noise(3, 4, channels)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(
        height, width, channels
    )


def write(path, pixels, *, strips=1, icc_profile=None):
    spec = ImageSpec(shape=pixels.shape, dtype=pixels.dtype, icc_profile=icc_profile)
    write_strips(path, np.array_split(pixels, strips), spec)


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SRGAN_DEBUG", raising=False)


@pytest.fixture
def weights():
    torch.manual_seed(0)
    torch.save(MSRResNet(mid_channels=4, num_blocks=1).state_dict(), "w.pth")
    return "w.pth"


@pytest.fixture
def run_upscale(weights, capfd):
    """Return a function that runs the command and returns its status, output and error lines."""

    def run(*arguments):
        capfd.readouterr()
        status = 0
        try:
            main(["upscale", *map(str, arguments), "--model", weights, "--device", "cpu"])
        except SystemExit as stop:
            status = stop.code
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        return status, said.out.strip(), said.err.strip().splitlines()

    return run


@settings(max_examples=25, deadline=None)
@given(
    suffix=st.sampled_from([".png", ".tif"]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    channels=st.integers(1, 4),
    height=st.integers(1, 150),
    width=st.integers(1, 20),
    strips=st.integers(1, 5),
)
def test_opencv_and_pillow_read_the_written_png_and_tiff(
    tmp_path_factory, suffix, dtype, channels, height, width, strips
):
    path = tmp_path_factory.mktemp("x") / f"x{suffix}"
    pixels = noise(height, width, channels, dtype=dtype)
    write(path, pixels, strips=min(strips, height), icc_profile=RGB_PROFILE)
    if (dtype, suffix, channels) != (np.uint16, ".tif", 2):  # which Pillow does not know
        again = read_image_content(path)
        assert again.pixels.dtype == dtype
        np.testing.assert_array_equal(again.pixels, pixels)
        assert again.icc_profile == (RGB_PROFILE if channels > 2 else None)
    if suffix == ".tif":
        np.testing.assert_array_equal(tifffile.imread(path).reshape(pixels.shape), pixels)
    elif channels != 2:  # which OpenCV does not have
        seen = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).reshape(height, width, -1)
        order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
        np.testing.assert_array_equal(seen[..., order], pixels)
    if dtype == np.uint8:
        with Image.open(path) as image:
            assert MODES[image.mode] == channels
            np.testing.assert_array_equal(
                np.asarray(image).reshape(height, width, channels), pixels
            )


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_jpeg_and_webp_hold_the_image_in_8_bits(suffix, channels, dtype):
    if (suffix, channels) == (".jpg", 4):
        pytest.skip("JPEG has no alpha")
    pixels = smooth(40, 50, channels).astype(dtype) * (257 if dtype == np.uint16 else 1)
    write(Path(f"x{suffix}"), pixels.astype(dtype), strips=3, icc_profile=RGB_PROFILE)
    again = read_image_content(Path(f"x{suffix}"))
    assert again.pixels.dtype == np.uint8
    expected = smooth(40, 50, channels)
    assert np.abs(again.pixels[..., :3].astype(float) - expected[..., :3]).mean() < 4
    assert again.icc_profile == (RGB_PROFILE if channels > 2 or suffix == ".webp" else None)


def test_a_grey_colour_profile_is_kept_only_with_grey_pixels():
    for suffix, kept in ((".png", GREY_PROFILE), (".jpg", GREY_PROFILE), (".webp", None)):
        write(Path(f"x{suffix}"), noise(8, 8, 1), icc_profile=GREY_PROFILE)
        assert read_image_content(Path(f"x{suffix}")).icc_profile == kept


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_exif_orientation_is_applied_once_as_in_pillow(orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(smooth(12, 20, 3)).save(f"x{suffix}", exif=exif, **lossless)
    with Image.open(f"x{suffix}") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    pixels = read_image_content(Path(f"x{suffix}")).pixels
    np.testing.assert_array_equal(pixels, expected)
    write(Path(f"y{suffix}"), pixels)
    assert read_image_content(Path(f"y{suffix}")).pixels.shape == pixels.shape


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_exif_orientation_is_applied_once_with_16_bits(suffix):
    pixels = noise(6, 9, 3, dtype=np.uint16)
    write(Path(f"x{suffix}"), pixels)
    content = Path(f"x{suffix}").read_bytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    if suffix == ".png":
        body = exif.tobytes().removeprefix(b"Exif\0\0")
        chunk = b"eXIf" + body
        chunk = len(body).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        content = content[:33] + chunk + content[33:]
    else:  # TIFF's entries are sorted by tag
        place = int.from_bytes(content[4:8], "little")
        count = int.from_bytes(content[place : place + 2], "little")
        entries = [content[place + 2 + 12 * n : place + 14 + 12 * n] for n in range(count)]
        entries.append(np.array([274, 3, 1, 0, 6, 0], "<u2").tobytes())
        entries.sort(key=lambda entry: int.from_bytes(entry[:2], "little"))
        directory = (count + 1).to_bytes(2, "little") + b"".join(entries) + bytes(4)
        content = content[:place] + directory
    Path(f"x{suffix}").write_bytes(content)
    np.testing.assert_array_equal(
        read_image_content(Path(f"x{suffix}")).pixels, np.rot90(pixels, -1)
    )


def test_palettes_become_colour_and_single_bits_grey():
    image = Image.fromarray(noise(8, 9, 3)).quantize(16)
    image.save("p.png")
    image.save("t.png", transparency=0)
    Image.fromarray(noise(8, 9)).convert("1").save("b.png")
    np.testing.assert_array_equal(read_image_content(Path("p.png")).pixels, image.convert("RGB"))
    assert read_image_content(Path("t.png")).pixels.shape == (8, 9, 4)
    assert set(np.unique(read_image_content(Path("b.png")).pixels)) == {0, 255}


def test_the_result_for_one_image_is_that_of_the_network(run_upscale, weights):
    Image.fromarray(noise(20, 30, 3)).save("a.png", icc_profile=RGB_PROFILE)
    assert run_upscale("a.png", "out/b.png")[:2] == (0, "1 done, 0 skipped, 0 failed")
    expected = Upscaler(open_model(weights), device="cpu")(noise(20, 30, 3))
    again = read_image_content(Path("out/b.png"))
    np.testing.assert_array_equal(again.pixels, expected)
    assert again.icc_profile == RGB_PROFILE


def test_the_option_tile_does_not_change_the_result(run_upscale):
    Image.fromarray(noise(40, 50, 3)).save("a.png")
    run_upscale("a.png", "whole.png")
    run_upscale("a.png", "tiled.png", "--tile", 16)
    whole, tiled = (
        read_image_content(Path(f"{n}.png")).pixels.astype(int) for n in ("whole", "tiled")
    )
    assert np.abs(whole - tiled).max() <= 1


def test_a_folder_keeps_its_names_and_a_second_run_does_the_rest(run_upscale):
    Path("in/deep").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "deep/c.webp", ".hidden.png"):
        Image.fromarray(noise(8, 9, 3)).save(f"in/{name}")
    Path("in/notes.txt").write_text("no picture")
    left_out = "skipped, not images by their names: 1\n  in/notes.txt\n"
    assert run_upscale("in", "in/out")[:2] == (0, left_out + "3 done, 0 skipped, 0 failed")
    made = {p.relative_to("in/out").as_posix() for p in Path("in/out").rglob("*") if p.is_file()}
    assert made == {"a.png", "b.jpg", "deep/c.webp"}
    before = Path("in/out/a.png").stat()
    Path("in/out/b.jpg").unlink()
    said = "1 done, 2 skipped (they exist; --overwrite writes them again), 0 failed"
    assert run_upscale("in", "in/out")[:2] == (0, left_out + said)
    assert Path("in/out/a.png").stat() == before
    Path("in/out/a.png").write_bytes(b"another model's")
    assert run_upscale("in", "in/out", "--overwrite")[:2] == (
        0,
        left_out + "3 done, 0 skipped, 0 failed",
    )
    assert cv2.imread("in/out/a.png").shape == (32, 36, 3)


def test_the_output_folder_may_be_inside_the_input_folder(run_upscale):
    Path("all/low").mkdir(parents=True)
    Image.fromarray(noise(8, 9, 3)).save("all/low/a.png")
    assert run_upscale("all/low", "all")[:2] == (0, "1 done, 0 skipped, 0 failed")
    assert run_upscale("all/low", ".")[:2] == (0, "1 done, 0 skipped, 0 failed")
    assert read_image_content(Path("all/a.png")).pixels.shape == (32, 36, 3)
    assert Path("a.png").read_bytes() == Path("all/a.png").read_bytes()


def test_an_unreadable_folder_is_one_line_and_the_rest_is_upscaled(run_upscale, monkeypatch):
    Path("in/closed").mkdir(parents=True)
    Image.fromarray(noise(8, 9, 3)).save("in/a.png")
    Image.fromarray(noise(8, 9, 3)).save("in/closed/b.png")
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    status, out, lines = run_upscale("in", "out")
    assert (status, out) == (1, "1 done, 0 skipped, 1 failed")
    assert len(lines) == 1
    assert "in/closed" in lines[0]
    Image.fromarray(noise(8, 9, 3)).save("in/closed.jpg")
    status, out, lines = run_upscale("in", "again", "--format", "png")
    assert (status, out) == (1, "2 done, 0 skipped, 1 failed")
    assert sorted(path.name for path in Path("again").iterdir()) == ["a.png", "closed.png"]


def test_a_name_may_be_as_long_as_the_system_allows(run_upscale):
    Image.fromarray(noise(8, 9, 3)).save("a.png")
    target = "\N{HIRAGANA LETTER A}" * 83 + ".png"
    assert run_upscale("a.png", target)[0] == 0
    assert Path(target).is_file()


def test_an_image_with_a_damaged_exif_header_is_read():
    pixels = noise(6, 9, 3)
    Image.fromarray(pixels).save("x.png", exif=b"Exif\0\0no such header")
    np.testing.assert_array_equal(read_image_content(Path("x.png")).pixels, pixels)


def test_a_pattern_never_matches_results_or_files_that_are_not_images(run_upscale):
    Path("in").mkdir()
    Image.fromarray(noise(8, 9, 3)).save("in/a.png")
    Path("in/notes.txt").write_text("no picture")
    assert run_upscale("in/**/*", "in/out")[:2] == (0, "1 done, 0 skipped, 0 failed")
    assert run_upscale("in/**/*", "in/out")[1].startswith("0 done, 1 skipped")
    status, _, said = run_upscale("in/*", "in/")
    assert status == 1
    assert "is an input" in said[0]


def test_results_of_a_pattern_or_several_names_are_written_to_a_folder(run_upscale):
    for name in ("a1.png", "a2.png", "b.png"):
        Image.fromarray(noise(8, 9, 3)).save(name)
    assert run_upscale("a*.png", "one")[1] == "2 done, 0 skipped, 0 failed"
    assert run_upscale("a1.png", "b.png", "two")[1] == "2 done, 0 skipped, 0 failed"
    assert names("one") + names("two") == ["a1.png", "a2.png", "a1.png", "b.png"]
    assert run_upscale("b.png", "three/")[1] == "1 done, 0 skipped, 0 failed"
    assert names("three") == ["b.png"]
    status, _, said = run_upscale("a1.png", "b.png", "four.png")
    assert status == 1
    assert "four.png" in said[0]
    assert not Path("four.png").exists()


def test_an_image_that_several_inputs_contain_is_upscaled_once(run_upscale):
    Path("in").mkdir()
    for name in "ab":
        Image.fromarray(noise(8, 9, 3)).save(f"in/{name}.png")
    arguments = ("in", "in/b.png", "in/*.png", "out", "--overwrite")
    assert run_upscale(*arguments)[1] == "2 done, 0 skipped, 0 failed"


def test_the_limit_of_tiff_counts_the_bytes_of_a_pixel():
    shape = (30_000, 40_000, 3)  # 3.6 GB with 8 bits
    check_target(Path("x.tif"), shape, 8)
    with pytest.raises(UserError, match="4 GB"):
        check_target(Path("x.tif"), shape, 16)


def write_bad_batch():
    """Write one good image and every kind of bad one; return words of the message for each."""
    Path("in").mkdir()
    good = Image.fromarray(noise(8, 9, 3))
    good.save("in/good.png")
    frames = [Image.fromarray(noise(8, 9, 3, seed=seed)) for seed in range(2)]
    good.convert("CMYK").save("in/cmyk.jpg")
    Image.fromarray(np.float32(noise(8, 9))).save("in/float.tif")
    cv2.imwrite("in/float3.tif", np.float32(noise(8, 9, 3)))
    Path("in/empty.png").touch()
    Path("in/text.jpg").write_text("not an image")
    for name in ("moves.png", "moves.webp", "pages.tif"):
        frames[0].save(f"in/{name}", save_all=True, append_images=frames[1:])
    for name in ("cut.png", "cut.jpg", "cut.webp"):
        buffer = io.BytesIO()
        Image.fromarray(noise(80, 90, 3)).save(buffer, {"jpg": "JPEG"}.get(name[4:], name[4:]))
        Path("in", name).write_bytes(buffer.getvalue()[: len(buffer.getvalue()) * 2 // 3])
    write(Path("in/cut16.png"), noise(80, 90, 3, dtype=np.uint16))
    os.truncate("in/cut16.png", 20_000)
    Image.fromarray(noise(2, 17000, 3)).save("in/wide.jpg")
    colour, grey = noise(40, 41, 3, dtype=np.uint16), noise(40, 41, dtype=np.uint16)
    tifffile.imwrite("in/apart.tif", colour.transpose(2, 0, 1), photometric="rgb")
    tifffile.imwrite("in/negative.tif", grey, photometric="miniswhite")
    multiplied = noise(40, 41, 4, dtype=np.uint16)
    tifffile.imwrite(
        "in/multiplied.tif", multiplied, photometric="rgb", extrasamples=["assocalpha"]
    )
    write(Path("in/key.png"), colour)
    png = Path("in/key.png").read_bytes()
    after_header = 8 + 25
    key = b"tRNS" + bytes(6)
    key = (6).to_bytes(4, "big") + key + zlib.crc32(key).to_bytes(4, "big")
    Path("in/key.png").write_bytes(png[:after_header] + key + png[after_header:])
    write(Path("in/long.png"), np.zeros((1, 1_000_001, 1), np.uint16))
    good.save("in/hole.webp")
    Path("in/hole.avif").write_bytes(b"\0\0\0\x1cftypavif" + bytes(16))
    for name in ("hole.webp", "hole.avif"):
        os.truncate(f"in/{name}", 2**40)
    return {
        "apart.tif": "separate planes|unsupported kind",
        "negative.tif": "white as 0",
        "multiplied.tif": "premultiplied alpha",
        "key.png": "transparent colour",
        "long.png": "a million pixels",
        "cmyk.jpg": "CMYK",
        "float.tif": "floating point",
        "float3.tif": "floating point",
        "empty.png": "PNG, JPEG, WebP, BMP",
        "text.jpg": "PNG, JPEG, WebP, BMP",
        "moves.png": "2 frames or pages",
        "moves.webp": "2 frames or pages",
        "pages.tif": "2 frames or pages",
        "cut.png": "truncated",
        "cut.jpg": "truncated",
        "cut.webp": "PNG, JPEG, WebP, BMP|truncated",
        "cut16.png": "truncated",
        "wide.jpg": "8x68000",
        "hole.webp": "1099511627776 bytes",
        "hole.avif": "1099511627776 bytes",
    }


def test_each_bad_file_is_one_line_and_the_rest_is_upscaled(run_upscale):
    bad = write_bad_batch()
    status, out, lines = run_upscale("in", "out")
    assert (status, out) == (1, f"1 done, 0 skipped, {len(bad)} failed")
    assert names("out") == ["good.png"]
    assert len(lines) == len(bad), lines
    for name, said in bad.items():
        (line,) = [line for line in lines if f"/{name}" in line]
        assert line.startswith("error: ")
        assert any(part in line for part in said.split("|")), line


@settings(max_examples=200, deadline=None)
@given(data=st.data(), name=st.sampled_from(["x.png", "x.jpg", "x.webp", "x.tif"]))
def test_a_damaged_file_is_read_or_refused_by_name(tmp_path_factory, data, name):
    path = tmp_path_factory.mktemp("x") / name
    write(path, smooth(20, 30, 3))
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(damaged), 200) - 1) | st.integers(-200, -1))
        damaged[max(at, -len(damaged))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        assert read_image_content(path).pixels.ndim == 3
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.slow
def test_images_of_one_pixel_and_of_60_000_by_20_are_upscaled(run_upscale):
    Image.fromarray(noise(1, 1, 3)).save("dot.png")
    Image.fromarray(noise(20, 60_000)).save("strip.png")
    assert run_upscale("dot.png", "d.png")[0] == 0
    assert read_image_content(Path("d.png")).pixels.shape == (4, 4, 3)
    assert run_upscale("strip.png", "s.png")[0] == 0
    assert read_image_content(Path("s.png")).pixels.shape == (80, 240_000, 1)
    status, _, lines = run_upscale("strip.png", "s.jpg")
    assert status == 1
    assert all(part in lines[0] for part in ("s.jpg", "80x240000", "65500"))
    assert not Path("s.jpg").exists()


def test_invalid_outputs_are_one_line_and_inputs_are_unchanged(run_upscale):
    Path("in/sub").mkdir(parents=True)
    for name in ("in/a.png", "in/sub/a.png"):
        Image.fromarray(noise(8, 9, 4)).save(name)
    os.link("in/a.png", "link.png")
    Path("file").touch()
    before = Path("in/a.png").read_bytes()
    for arguments, said in {
        ("in/a.png", "in"): "in: expected a file to write",
        ("in/a.png", "in/a.png"): "in/a.png, which is an input",
        ("in/a.png", "link.png"): "link.png, which is an input",
        ("in", "in"): "which is an input",
        ("in", "file"): "the file file",
        ("in/a.png", "a.gif"): ".png",
        ("in/a.png", "a.jpg"): "a.jpg: expected a format with transparency",
        ("in/a.png", "in/sub/a.png", "out"): "out/a.png",
        ("nowhere.png", "b.png"): "nowhere.png",
        ("no*.png", "out"): "no*.png",
        ("in/a.png", "file/b.png"): "file",
    }.items():
        status, _, lines = run_upscale(*arguments)
        assert status == 1
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        assert said in lines[0]
    Path("empty").mkdir()
    assert "empty" in run_upscale("empty", "out")[2][0]
    assert Path("in/a.png").read_bytes() == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_permission_to_write_is_one_line(run_upscale):
    Image.fromarray(noise(8, 9, 3)).save("a.png")
    Path("out").mkdir(mode=0o500)
    status, _, lines = run_upscale("a.png", "out/b.png")
    assert status == 1
    assert len(lines) == 1
    assert "Permission denied" in lines[0]


def test_a_write_that_is_refused_is_one_line_and_leaves_no_file(run_upscale, monkeypatch):
    """Simulate a folder without permission to write, which root would be allowed."""
    Image.fromarray(noise(8, 9, 3)).save("a.png")
    plain = Path.open

    def forbidden(path, mode="r", *rest):
        if "w" in mode:
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, mode, *rest)

    monkeypatch.setattr(Path, "open", forbidden)
    status, _, lines = run_upscale("a.png", "b.png")
    assert status == 1
    assert len(lines) == 1
    assert "Permission denied" in lines[0]
    assert not Path("b.png").exists()


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
@pytest.mark.parametrize("size", [30, 100])  # a JPEG of one block, and of several
def test_a_full_disk_is_one_line_and_leaves_no_partial_file(run_upscale, suffix, size):
    Image.fromarray(noise(size, size, 3)).save("a.png")
    assert run_upscale("a.png", f"whole{suffix}")[0] == 0
    room = Path(f"whole{suffix}").stat().st_size - 100
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        status, _, lines = run_upscale("a.png", f"out/b{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 1
    assert len(lines) == 1
    assert "make room" in lines[0]
    assert names("out") == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_batch_ends_with_one_line_if_no_result_can_be_written(run_upscale, monkeypatch, code):
    Path("in").mkdir()
    for name in "abcd":
        Image.fromarray(noise(8, 9, 3)).save(f"in/{name}.png")
    Path("in/a.png").write_bytes(b"no image")
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(code, os.strerror(code), "out/c.png")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    status, _, lines = run_upscale("in", "out")
    assert status == 1
    assert len(lines) == 2
    assert "in/a.png" in lines[0]
    assert os.strerror(code) in lines[1]
    assert "1 of 4 images are done" in lines[1]
    assert names("out") == ["b.png"]


def test_an_image_that_fails_midway_leaves_no_file(tmp_path):
    def strips():
        yield noise(4, 8, 3)
        raise MemoryError

    for suffix in WRITABLE_SUFFIXES:
        with pytest.raises(MemoryError):
            spec = ImageSpec(shape=(8, 8, 3), dtype=np.dtype(np.uint8))
            write_strips(tmp_path / f"x{suffix}", strips(), spec)
    assert names(tmp_path) == []


def test_a_wrong_network_name_or_option_is_one_line(capfd):
    Image.fromarray(noise(8, 9, 3)).save("a.png")
    state = SRResNet(mid_channels=4, num_blocks=1).state_dict()
    torch.save({"x" + key: weight for key, weight in state.items()}, "other.pth")
    for options, status in {
        ("--model", "other.pth"): 1,
        ("--model", "nowhere.pth"): 1,
        ("--blend-with", "srgan"): 1,
        ("--tile", "x"): 2,
        ("--device", "tpu"): 1,
    }.items():
        with pytest.raises(SystemExit) as stop:
            main(["upscale", "a.png", "b.png", *options])
        said = capfd.readouterr().err
        assert stop.value.code == status
        assert said.count("error: ") == 1
        assert "Traceback" not in said
    assert not Path("b.png").exists()


def test_the_tool_is_the_command_and_the_package_exports_the_function():
    tool = Path(__file__).resolve().parents[2] / "tools" / "upscale.py"
    result = subprocess.run(
        [sys.executable, tool, "--help"], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("usage: srgan-plugin upscale")
    import srgan_plugin
    from srgan_plugin.inference import upscale

    assert srgan_plugin.upscale is upscale
    with pytest.raises(ValueError, match="as a NumPy array, got list"):
        upscale([1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got Tensor; convert it by \.cpu"):
        upscale(torch.zeros(8, 8, 3, dtype=torch.uint8))  # type: ignore[call-overload]
    with pytest.raises(
        ValueError, match="one image at a time, move the channels to the end, round"
    ):
        upscale(np.zeros((1, 3, 8, 8)))
    for scale in ("4", 1e308, -1, float("nan")):
        with pytest.raises(ValueError, match="scale: expected a positive number up to") as caught:
            upscale(np.zeros((8, 8), np.uint8), scale=scale)
        assert repr(scale) in str(caught.value)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        srgan_plugin.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("option", "value", "status"),
    [
        ("--suffix", "_x4", 1),
        ("--suffix", "png", 1),
        ("--format", "jpg", 1),
        ("--scale", "0", 2),
        ("--scale", "nan", 2),
        ("--blend", "2", 2),
    ],
)
def test_an_option_that_does_not_apply_is_refused_by_name(run_upscale, option, value, status):
    write(Path("a.png"), smooth(8, 9, 3))
    found, _, lines = run_upscale("a.png", "b.png", option, value)
    assert (found, Path("b.png").exists()) == (status, False)
    assert option in lines[-1]


def test_a_format_equal_to_that_of_the_name_is_accepted(run_upscale):
    write(Path("a.png"), smooth(8, 9, 3))
    assert run_upscale("a.png", "b.jpg", "--format", "jpg", "--quality", "80")[0] == 0
    assert Path("b.jpg").is_file()
    for name, value in (("b.JPEG", "jpg"), ("b.tiff", "tif")):
        assert run_upscale("a.png", name, "--format", value)[0] == 0
        assert Path(name).is_file()


def test_a_blocky_jpeg_is_said_to_have_a_model_of_its_own_only_where_that_helps(capfd):
    image = Image.fromarray(smooth(12, 9, 3))
    for name, quality in (("a.jpg", 60), ("b.jpg", 90), ("c.jpg", 91)):
        image.save(name, quality=quality)
    image.save("d.png")

    def said(*arguments):
        capfd.readouterr()
        main(["upscale", *arguments, "--device", "cpu"])
        return [line for line in capfd.readouterr().err.splitlines() if "quality" in line]

    (line,) = said("a.jpg", "b.jpg", "c.jpg", "d.png", "out")
    assert line.startswith("a.jpg and 1 more: JPEG of quality 60 to 90;")
    assert "--model photo" in line
    assert said("a.jpg", "a.png")[0].startswith("a.jpg: JPEG of quality 60;")
    assert len(said("b.jpg", "b.png", "--model", "srgan")) == 1
    # All results exist; a good JPEG; no JPEG; the right model; part of it.
    assert said("a.jpg", "b.jpg", "out") == []
    assert said("c.jpg", "c.png") == []
    assert said("d.png", "e.png") == []
    assert said("a.jpg", "f.png", "--model", "photo") == []
    assert said("a.jpg", "g.png", "--blend", "0.5", "--blend-with", "photo") == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("output", ["b.png", "b/"])
def test_a_pipe_named_as_a_jpeg_is_not_waited_for(capfd, output):
    os.mkfifo("a.jpg")
    with pytest.raises(SystemExit):
        main(["upscale", "a.jpg", output, "--device", "cpu"])  # the default has advice for JPEG
    assert "a.jpg: expected an image file, got a pipe" in capfd.readouterr().err
