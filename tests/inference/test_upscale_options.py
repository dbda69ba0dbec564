"""Test the options of upscaling: scale, self-ensemble, metadata, names, precision."""

import time
from copy import deepcopy
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features
from PIL.ExifTags import IFD, Base
from PIL.PngImagePlugin import PngInfo

from srgan_plugin.__main__ import main
from srgan_plugin.data.resize import imresize, resize_rows
from srgan_plugin.errors import UserError
from srgan_plugin.inference import Upscaler
from srgan_plugin.inference.backends.torch_backend import find_device
from srgan_plugin.inference.precision import bfloat16_speedup
from srgan_plugin.io.metadata import Metadata
from srgan_plugin.networks import MSRResNet
from srgan_plugin.networks.self_ensemble import self_ensemble

torch.manual_seed(0)
NETWORK = MSRResNet(mid_channels=4, num_blocks=1).eval()


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


@pytest.fixture
def upscale(tmp_path, monkeypatch):
    """Return a function that runs the command with small weights in an empty folder."""
    monkeypatch.chdir(tmp_path)
    torch.save(NETWORK.state_dict(), "w.pth")
    return lambda *words: main(["upscale", *words, "--model", "w.pth", "--device", "cpu"])


@pytest.mark.parametrize("scale", [1, 2, 2.5, 3, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_another_scale_is_matlab_s_bicubic_of_the_result_of_the_network(scale, dtype):
    image = noise(11, 14, 3, dtype=dtype)
    result = Upscaler(NETWORK, device="cpu", scale=scale)(image)
    whole = Upscaler(NETWORK, device="cpu")(image).astype(float)
    size = (round(11 * scale), round(14 * scale))
    expected = np.floor(imresize(whole, output_size=size).clip(0, np.iinfo(dtype).max) + 0.5)
    assert result.dtype == dtype
    assert result.shape == (*size, 3)
    # The order of the sums differs if rows and columns shrink by the same factor.
    assert np.abs(result - expected).max() <= 1


@given(
    height=st.integers(1, 40), width=st.integers(1, 40), size=st.tuples(*[st.integers(1, 60)] * 2)
)
@settings(max_examples=50, deadline=None)
def test_resizing_rows_in_parts_equals_resizing_the_whole_image(height, width, size):
    image = np.random.default_rng(height * width).random((height, width, 3))
    whole = imresize(image, output_size=size)
    middle = size[0] // 2
    parts = [
        resize_rows(image, size, *ends)
        for ends in ((0, middle), (middle, size[0]))
        if ends[1] > ends[0]
    ]
    assert np.allclose(np.concatenate(parts), whole, atol=1e-12)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_a_scale_that_is_not_positive_is_refused(scale):
    with pytest.raises(UserError, match="scale"):
        Upscaler(NETWORK, scale=scale)


def rotated_and_flipped(image, function):
    """Return the mean of `function` over four rotations with and without a flip, with NumPy."""
    results = []
    for turns in range(4):
        for flipped in (False, True):
            turned = np.rot90(image[:, ::-1] if flipped else image, turns)
            back = np.rot90(function(np.ascontiguousarray(turned)), -turns)
            results.append(back[:, ::-1] if flipped else back)
    return np.mean(results, axis=0)


def network_on_pixels(pixels, network=NETWORK):
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        return network(x)[0].permute(1, 2, 0).numpy()


def test_self_ensemble_is_the_mean_over_rotations_and_flips():
    image = np.random.default_rng(0).random((9, 13, 3))
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        result = self_ensemble(NETWORK, x)[0].permute(1, 2, 0).numpy()
    assert np.allclose(result, rotated_and_flipped(image, network_on_pixels), atol=1e-6)


def test_self_ensemble_of_the_upscaler_tiles_without_a_seam():
    image = noise(40, 53, 3)
    tiled = Upscaler(NETWORK, device="cpu", tta=True, tile=16)(image)
    expected = rotated_and_flipped(image / 255, network_on_pixels).clip(0, 1)
    assert np.abs(tiled - 255 * expected).max() <= 0.51
    assert not np.array_equal(tiled, Upscaler(NETWORK, device="cpu")(image))


def test_the_mean_of_the_self_ensemble_is_clamped_and_not_its_parts():
    network, image = deepcopy(NETWORK), noise(20, 23, 3)
    with torch.no_grad():  # large enough that results leave [0, 1] in some of the eight
        for name, weight in network.named_parameters():
            weight.mul_(4 if name.endswith("weight") else 1)
    result = Upscaler(network, device="cpu", tta=True)(image)
    exact = partial(network_on_pixels, network=network)
    after = rotated_and_flipped(image / 255, exact).clip(0, 1)
    before = rotated_and_flipped(image / 255, lambda x: exact(x).clip(0, 1))
    assert np.abs(result - 255 * after).max() <= 0.51
    assert np.abs(result - 255 * before).max() > 2


@pytest.fixture
def photograph(tmp_path):
    """Write a JPEG file with EXIF, GPS position, resolution and orientation."""
    exif = Image.Exif()
    exif[Base.Artist], exif[Base.Copyright] = "Ada", "(c) Ada"
    exif[Base.Model], exif[Base.Orientation] = "Camera 1", 6
    exif[IFD.Exif] = {Base.ISOSpeedRatings: 100, Base.ExifImageWidth: 12, Base.MakerNote: b"xyz"}
    exif[IFD.GPSInfo] = {1: "N", 2: (48.0, 30.0, 0.0)}
    path = tmp_path / "photo.jpg"
    Image.fromarray(noise(8, 12, 3)).save(path, exif=exif, dpi=(300, 300))
    return path


def test_a_resolution_below_one_dot_per_inch_in_one_direction_is_not_kept(upscale, tmp_path):
    Image.fromarray(noise(8, 12, 3)).save(tmp_path / "photo.png", dpi=(300, 0.5))
    upscale(str(tmp_path / "photo.png"), "out.png")
    with Image.open("out.png") as result:
        assert "dpi" not in result.info


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_no_resolution_is_written_for_a_jpeg_whose_exif_has_none(upscale, tmp_path, suffix):
    exif = Image.Exif()
    exif[Base.Model] = "Camera 1"
    Image.fromarray(noise(8, 12, 3)).save(tmp_path / "photo.jpg", exif=exif)
    upscale(str(tmp_path / "photo.jpg"), f"out.{suffix}")
    with Image.open(f"out.{suffix}") as result:
        written = result.getexif()
        assert written[Base.Model] == "Camera 1"
        assert not {Base.XResolution, Base.YResolution, Base.ResolutionUnit} & written.keys()
        assert suffix != "png" or "dpi" not in result.info


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_and_resolution_are_kept_except_entries_that_would_be_wrong(
    upscale, photograph, suffix
):
    upscale(str(photograph), f"out.{suffix}")
    with Image.open(f"out.{suffix}") as result:
        exif = result.getexif()
        assert result.size == (32, 48)  # upright
        texts = (Base.Artist, Base.Copyright, Base.Model)
        assert [exif[tag] for tag in texts] == ["Ada", "(c) Ada", "Camera 1"]
        assert exif.get(Base.Orientation, 1) == 1
        if suffix != "webp":
            assert result.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        if suffix == "tif":
            return
        assert exif[Base.XResolution] == 300
        details, place = exif.get_ifd(IFD.Exif), exif.get_ifd(IFD.GPSInfo)
    assert details[Base.ISOSpeedRatings] == 100
    assert Base.MakerNote not in details
    assert (details[Base.ExifImageWidth], details[Base.ExifImageHeight]) == (32, 48)
    assert place[1] == "N"
    assert tuple(place[2]) == (48, 30, 0)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_strings_in_exif_keep_their_bytes(upscale, suffix, encoding):
    texts = {Base.Copyright: "© Jörg Süß".encode(encoding), Base.Model: "Straße".encode(encoding)}
    owner = "Zoë".encode(encoding)
    exif = Image.Exif()  # Pillow writes ASCII alone: letters are put in its file afterwards
    for tag, text in texts.items():
        exif[tag] = chr(tag % 26 + 65) * len(text)
    exif[IFD.Exif] = {Base.CameraOwnerName: "o" * len(owner)}
    Image.fromarray(noise(8, 12, 3)).save("a.jpg", exif=exif)
    content = Path("a.jpg").read_bytes()
    for tag, text in texts.items():
        content = content.replace((chr(tag % 26 + 65) * len(text)).encode(), text)
    Path("a.jpg").write_bytes(content.replace(b"o" * len(owner) + b"\0", owner + b"\0"))
    upscale("a.jpg", f"out.{suffix}")
    written = Path(f"out.{suffix}").read_bytes()
    for text in (*texts.values(), *([owner] if suffix != "tif" else [])):
        assert text + b"\0" in written


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_metadata_can_be_limited_to_author_and_copyright_or_removed(upscale, photograph, suffix):
    for keep, expected in (("copyright", {"Ada", "(c) Ada"}), ("none", set())):
        upscale(str(photograph), f"out.{suffix}", "--metadata", keep, "--overwrite")
        with Image.open(f"out.{suffix}") as result:
            exif = result.getexif()
            assert {v for v in exif.values() if isinstance(v, str)} == expected
            assert not exif.get_ifd(IFD.GPSInfo)
            assert not exif.get_ifd(IFD.Exif)


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" '
    'tiff:ImageWidth="12"><exif:PixelYDimension xmlns:exif="http://ns.adobe.com/exif/1.0/">8'
    "</exif:PixelYDimension><dc:title xmlns:dc='http://purl.org/dc/elements/1.1/'>Süß</dc:title>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
).encode()
KEPT_XMP = (
    XMP.replace(b'"6"', b'"1"').replace(b'Width="12"', b'Width="32"').replace(b">8<", b">48<")
)


@pytest.fixture
def described(tmp_path):
    """A PNG and a JPEG file with XMP, texts and a comment."""
    texts = PngInfo()
    texts.add_text("Author", "Ada")
    texts.add_text("Title", "line 1\nline 2", zip=True)
    texts.add_itxt("Comment", "Ωmega", "el", "σχόλιο")
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    Image.fromarray(noise(8, 12, 3)).save(tmp_path / "a.png", pnginfo=texts)
    Image.fromarray(noise(8, 12, 3)).save(
        tmp_path / "b.jpg", comment="© Jörg".encode("latin-1"), xmp=XMP, progressive=True
    )


@pytest.mark.usefixtures("described")
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("source", ["a.png", "b.jpg"])
def test_xmp_texts_and_comments_are_kept_where_the_format_has_a_place_else_named(
    upscale, capfd, source, suffix
):
    upscale(source, f"out.{suffix}")
    said = capfd.readouterr().err
    with Image.open(f"out.{suffix}") as result:
        result.load()
        xmp = result.info.get("xmp") or result.info["XML:com.adobe.xmp"].encode()
        texts, comment = getattr(result, "text", {}), result.info.get("comment")
    assert xmp == KEPT_XMP
    if suffix == "png":
        texts.pop("XML:com.adobe.xmp")
        of_png = {"Author": "Ada", "Title": "line 1\nline 2", "Comment": "Ωmega"}
        assert texts == (of_png if source == "a.png" else {"Comment": "© Jörg"})
        assert "not kept" not in said
    elif suffix == "jpg":
        assert comment == ("Ωmega".encode() if source == "a.png" else "© Jörg".encode("latin-1"))
        assert ("text Title" in said) == ("text Author" in said) == (source == "a.png")
    else:
        assert ("text Comment" if source == "a.png" else "comment") in said
        assert f"out.{suffix}" in said


@pytest.mark.parametrize(
    "xmp",
    [
        b"tiff:Orientation " * 12_000,
        b"<tiff:Orientation " * 12_000,
        b"tiff:Orientation" + b" " * 200_000,
        b"<tiff:Orientation>" + b" " * 200_000,
        (b'tiff:Orientation="' + b" " * 100) * 2_000,
    ],
    ids=lambda xmp: xmp[:24].decode(),
)
def test_hostile_xmp_is_rewritten_in_linear_time(xmp):
    started = time.process_time()
    assert Metadata(tags={}, directories={}, xmp=xmp).xmp_for(32, 48) == xmp
    assert time.process_time() - started < 1  # a quadratic search took 20 s


def test_xmp_gets_the_size_in_all_forms_and_only_where_it_states_it():
    xmp = (
        b"<tiff:Orientation xml:lang='x'> 6</tiff:Orientation>7 <a tiff:Orientation = '8' b='6'>"
        b"<tiff:Orientation>\n3</tiff:Orientation> <tiff:OrientationX>6</tiff:OrientationX>"
    )
    turned = Metadata(tags={}, directories={}, xmp=xmp).xmp_for(32, 48)
    expected = xmp.replace(b"> 6<", b"> 1<").replace(b"'8'", b"'1'").replace(b"\n3", b"\n1")
    assert turned == expected


DC, RDF = "{http://purl.org/dc/elements/1.1/}", "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
XMP_OF_AUTHOR = XMP.replace(
    b"</rdf:Description>",
    """<q:creator xmlns:q='http://purl.org/dc/elements/1.1/'><rdf:Seq><rdf:li>Jörg &amp; Ada
    </rdf:li></rdf:Seq></q:creator><q:rights xmlns:q='http://purl.org/dc/elements/1.1/'><rdf:Alt>
    <rdf:li xml:lang='x-default'>© 2026</rdf:li></rdf:Alt></q:rights></rdf:Description>
    <rdf:Description xmlns:xr='http://ns.adobe.com/xap/1.0/rights/' xr:Marked='True'
    xr:WebStatement='http://example.org'/>""".encode(),
)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_author_and_rights_of_xmp_are_kept_with_copyright_and_nothing_else_of_it(upscale, suffix):
    begin, end = "<?xpacket begin='\ufeff' id='x'?>\n".encode(), b"\n  <?xpacket end='w'?>"
    Image.fromarray(noise(8, 12, 3)).save("a.jpg", xmp=begin + XMP_OF_AUTHOR + end)
    upscale("a.jpg", f"out.{suffix}", "--metadata", "copyright")
    with Image.open(f"out.{suffix}") as result:
        result.load()
        packet = ElementTree.fromstring(result.info.get("xmp") or result.info["XML:com.adobe.xmp"])
    (description,) = packet.iter(f"{RDF}Description")
    assert {part.tag for part in description} == {f"{DC}creator", f"{DC}rights"}
    assert [part.text.strip() for part in packet.iter(f"{RDF}li")] == ["Jörg & Ada", "© 2026"]
    rights = "{http://ns.adobe.com/xap/1.0/rights/}"
    assert description.attrib == {
        f"{RDF}about": "",
        f"{rights}Marked": "True",
        f"{rights}WebStatement": "http://example.org",
    }


@pytest.mark.parametrize(
    "xmp",
    [
        b"no XML",
        XMP,
        b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + XMP_OF_AUTHOR,
        XMP_OF_AUTHOR.replace(b"Ada", b"<a>" * 20_000 + b"</a>" * 20_000),
        XMP_OF_AUTHOR.replace(b"Ada", b"&#0;"),
        b"<?xml version='1.0' encoding='cp037'?>" + XMP_OF_AUTHOR.decode().encode("cp037"),
        b"<a>" + XMP_OF_AUTHOR.replace(b"rdf:RDF", b"rdf:Bag") + b"</a>",
    ],
    ids=["text", "no author", "entities", "nested", "control", "encoding", "another root"],
)
def test_xmp_without_author_or_that_is_not_plain_xml_gives_none(xmp):
    limited = Metadata(tags={}, directories={}, xmp=xmp).limited_to("copyright")
    assert limited.xmp == b""


@pytest.mark.usefixtures("described")
def test_of_texts_and_xmp_only_author_and_copyright_can_be_kept_or_nothing(upscale, capfd):
    for keep, expected in (("copyright", {"Author": "Ada"}), ("none", {})):
        upscale("a.png", "out.png", "--metadata", keep, "--overwrite")
        with Image.open("out.png") as result:
            result.load()
            assert result.text == expected
            assert "xmp" not in result.info
    upscale("b.jpg", "out.webp", "--metadata", "none")
    assert "not kept" not in capfd.readouterr().err


def test_xmp_too_large_for_a_jpeg_segment_is_named_and_the_image_written(upscale, capfd):
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", "x" * 70_000)
    Image.fromarray(noise(8, 12, 3)).save("a.png", pnginfo=texts)
    upscale("a.png", "out.jpg")
    assert "XMP too long for JPEG (out.jpg)" in capfd.readouterr().err
    with Image.open("out.jpg") as result:
        assert result.size == (48, 32)
        assert "xmp" not in result.info


def test_exif_too_large_for_a_jpeg_segment_is_named_and_kept_in_webp(upscale, capfd):
    exif = Image.Exif()
    exif[Base.ImageDescription] = "x" * 70_000
    Image.fromarray(noise(8, 12, 3)).save("a.png", exif=exif)
    upscale("a.png", "out.webp")
    assert "not kept" not in capfd.readouterr().err
    upscale("a.png", "out.jpg")
    assert "EXIF too long for JPEG (out.jpg)" in capfd.readouterr().err
    for suffix, expected in (("jpg", {}), ("webp", dict(exif))):
        with Image.open(f"out.{suffix}") as result:
            assert result.size == (48, 32)
            assert dict(result.getexif()) == expected


def test_xmp_that_its_new_size_makes_too_large_for_jpeg_is_named(upscale, capfd):
    texts, room = PngInfo(), 2**16 - 3 - len(b"http://ns.adobe.com/xap/1.0/\0")
    texts.add_itxt("XML:com.adobe.xmp", '<x tiff:ImageWidth="8"/>'.ljust(room))
    Image.fromarray(noise(8, 8, 3)).save("a.png", pnginfo=texts)
    upscale("a.png", "same.jpg", "--scale", "1")
    assert "not kept" not in capfd.readouterr().err
    upscale("a.png", "out.jpg")
    assert "XMP too long for JPEG (out.jpg)" in capfd.readouterr().err


@pytest.mark.parametrize("suffix", ["tif", "jpg", "png", "webp"])
def test_tags_of_exif_that_are_no_texts_are_kept_or_named(upscale, capfd, suffix):
    exif = Image.Exif()
    exif[Base.Artist], exif[Base.Rating] = "Ada", 5
    exif[Base.XPAuthor] = "Ada\0".encode("utf-16-le")
    Image.fromarray(noise(8, 8, 3)).save("a.jpg", exif=exif)
    upscale("a.jpg", f"out.{suffix}")
    said = capfd.readouterr().err
    with Image.open(f"out.{suffix}") as result:
        kept = result.getexif()
    assert kept[Base.Artist] == "Ada"
    for tag in (Base.Rating, Base.XPAuthor):
        assert (f"EXIF {tag.name} (out.{suffix})" in said) == (tag not in kept) == (suffix == "tif")


@pytest.mark.usefixtures("described")
def test_other_programs_read_what_is_written(upscale):
    """OpenCV and tifffile, to which these parts are unknown or are tag 700."""
    for suffix in ("png", "jpg", "webp", "tif"):
        upscale("a.png", f"out.{suffix}")
        assert cv2.imread(f"out.{suffix}").shape == (48, 32, 3)
    with tifffile.TiffFile("out.tif") as file:
        assert file.pages[0].tags[700].value == KEPT_XMP


def test_images_that_differ_in_their_format_only_keep_it_in_the_names_of_their_results(
    upscale, capfd
):
    Path("in/sub").mkdir(parents=True)
    for value, name in ((50, "x.jpg"), (200, "x.png"), (9, "y.png"), (9, "sub/x.png")):
        Image.new("RGB", (6, 5), (value,) * 3).save(f"in/{name}")
    upscale("in", "out", "--format", "png", "--suffix", "_big")
    found = {str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file()}
    assert found == {"x.jpg_big.png", "x.png_big.png", "y_big.png", "sub/x_big.png"}
    expected = {
        value: Upscaler(NETWORK)(np.full((5, 6, 3), value, np.uint8)) for value in (50, 200)
    }
    for value, name in ((50, "x.jpg"), (200, "x.png")):
        with Image.open(f"out/{name}_big.png") as result:
            assert np.array_equal(np.asarray(result), expected[value])
    said = capfd.readouterr()
    assert "in/x.jpg -> out/x.jpg_big.png" in said.err
    assert "y.png" not in said.err
    assert "4 done" in said.out


def test_help_says_that_names_depend_on_the_other_inputs_as_they_do(upscale, capsys):
    with pytest.raises(SystemExit):
        main(["upscale", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "x.jpg.png and x.png.png" in said
    assert "earlier run" in said
    Path("in").mkdir()
    Image.new("RGB", (6, 5)).save("in/x.jpg")
    upscale("in", "out", "--format", "png")
    before = Path("out/x.png").read_bytes()
    Image.new("RGB", (6, 5), (200,) * 3).save("in/x.png")
    upscale("in", "out", "--format", "png")
    assert {path.name for path in Path("out").iterdir()} == {"x.png", "x.jpg.png", "x.png.png"}
    assert Path("out/x.png").read_bytes() == before


def test_a_longer_name_that_another_image_has_is_made_longer_as_well(upscale, capfd):
    Path("in").mkdir()
    for name in ("x.jpg", "x.png", "x.jpg.png", "y.png"):
        Image.fromarray(noise(6, 5, 3)).save(f"in/{name}")
    upscale("in", "out", "--format", "png")
    found = {path.name for path in Path("out").iterdir()}
    assert found == {"x.jpg.png", "x.png.png", "x.jpg.png.png", "y.png"}
    assert "in/x.jpg.png -> out/x.jpg.png.png" in capfd.readouterr().err


def test_a_single_renamed_image_is_named(upscale, capfd):
    for name in ("x", "x.jpg"):
        Image.fromarray(noise(6, 5, 3)).save(name, "jpeg")
    upscale("x", "x.jpg", "out/", "--format", "png")
    assert {path.name for path in Path("out").iterdir()} == {"x.png", "x.jpg.png"}
    assert "x.jpg -> out/x.jpg.png" in capfd.readouterr().err
    upscale("x.jpg", "x.jpg.png")
    assert "->" not in capfd.readouterr().err


@pytest.mark.parametrize("target", ["b.png", "b.tif", "out/"])
def test_quality_without_a_lossy_result_is_one_line(upscale, capfd, target):
    Image.fromarray(noise(6, 5, 3)).save("a.png")
    with pytest.raises(SystemExit) as ended:
        upscale("a.png", target, "--quality", "95")
    assert ended.value.code == 1
    said = capfd.readouterr().err
    assert said.startswith("error: --quality: ")
    assert len(said.splitlines()) == 1


def test_a_scale_with_too_large_a_result_is_one_line(upscale, capfd):
    Image.fromarray(noise(9, 12, 3)).save("a.png")
    with pytest.raises(SystemExit):
        upscale("a.png", "b.png", "--scale", "10000")
    assert "90000x120000" in capfd.readouterr().err
    assert not Path("b.png").exists()


def test_names_and_formats_in_a_folder_follow_the_options_and_other_files_are_counted(
    upscale, tmp_path, capfd
):
    (tmp_path / "in/below").mkdir(parents=True)
    image = Image.fromarray(noise(6, 5, 3))
    for name in ("a.png", "b.bmp", "c.gif", "below/d.jpg"):
        image.save(tmp_path / "in" / name)
    (tmp_path / "in/notes.txt").write_text("none")
    upscale("in", "out", "--suffix", "_x4")
    found = {str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file()}
    assert found == {"a_x4.png", "b_x4.png", "c_x4.png", "below/d_x4.jpg"}
    said = capfd.readouterr().out
    assert "names: 1\n  in/notes.txt\n" in said
    assert "4 done" in said
    upscale("in", "out2", "--format", "webp", "--quality", "30")
    assert {p.suffix for p in Path("out2").rglob("*") if p.is_file()} == {".webp"}


def test_a_jpeg_of_higher_quality_is_larger(upscale):
    Image.fromarray(noise(20, 20, 3)).save("a.png")
    for quality in ("20", "95"):
        upscale("a.png", f"{quality}.jpg", "--quality", quality)
    assert Path("20.jpg").stat().st_size < Path("95.jpg").stat().st_size / 2


def test_gif_and_avif_are_read_if_pillow_supports_them(upscale):
    image = Image.fromarray(noise(6, 5, 3).repeat(2, 0).repeat(2, 1))
    image.save("a.gif")
    with Image.open("a.gif") as saved:
        pixels = np.asarray(saved.convert("RGB"))
    assert np.array_equal(Upscaler(NETWORK)("a.gif"), Upscaler(NETWORK)(pixels))
    if features.check("avif"):
        image.save("a.avif")
        with Image.open("a.avif") as saved:
            pixels = np.asarray(saved)
        assert np.array_equal(Upscaler(NETWORK)("a.avif"), Upscaler(NETWORK)(pixels))


def test_an_animation_is_refused(upscale, capfd):
    frames = [Image.fromarray(noise(6, 5, 3)), Image.fromarray(255 - noise(6, 5, 3))]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(SystemExit):
        upscale("a.gif", "out.png")
    assert "2 frames" in capfd.readouterr().err


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_a_pillow_image_is_upscaled_to_a_pillow_image(mode):
    image = Image.fromarray(noise(6, 5, 3)).convert(mode)
    result = Upscaler(NETWORK)(image)
    kind = {"P": "RGB", "1": "L"}.get(mode, mode)
    assert (result.mode, result.size) == (kind, (20, 24))
    pixels = np.asarray(image.convert(kind))
    assert np.array_equal(np.asarray(result), Upscaler(NETWORK)(pixels))


def test_a_pillow_image_of_16_bits_is_refused_with_what_to_do():
    with pytest.raises(UserError, match=r"expected 8 bits .* got uint16; pass the file path"):
        Upscaler(NETWORK)(Image.fromarray(np.zeros((4, 4), np.uint16)))


def test_a_pillow_image_in_cmyk_is_refused():
    with pytest.raises(UserError, match="CMYK"):
        Upscaler(NETWORK)(Image.new("CMYK", (4, 4)))


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cpu:1", "mps:7", "cuda:99"])
def test_a_device_that_does_not_exist_is_refused_by_name(name):
    with pytest.raises(UserError, match=name):
        find_device(name)


def test_devices_have_the_names_of_torch():
    assert find_device("cpu").type == "cpu"
    assert find_device("auto").type in ("cpu", "cuda")


def test_bfloat16_changes_pixels_by_at_most_four_levels():
    image = noise(24, 31, 3)
    exact = Upscaler(NETWORK, device="cpu")(image).astype(int)
    rounded = Upscaler(NETWORK, device="cpu", precision="bfloat16")(image)
    assert 0 < np.abs(exact - rounded).max() <= 4


def test_auto_chooses_bfloat16_only_if_a_convolution_is_faster_in_it(monkeypatch):
    for speedup, dtype in ((1.1, torch.float32), (2.0, torch.bfloat16)):
        monkeypatch.setattr(
            "srgan_plugin.inference.precision.bfloat16_speedup", lambda _, s=speedup: s
        )
        assert Upscaler(NETWORK, device="cpu", precision="auto").dtype == dtype


def test_the_speed_of_bfloat16_is_measured():
    assert 0.01 < bfloat16_speedup(torch.device("cpu")) < 100


def test_float16_on_a_cpu_and_contradicting_options_are_one_line(upscale, capfd):
    Image.fromarray(noise(6, 5, 3)).save("a.png")
    for words in (["--half"], ["--half", "--precision", "bfloat16"]):
        with pytest.raises(SystemExit):
            upscale("a.png", "out.png", *words)
        assert capfd.readouterr().err.count("error: ") == 1
