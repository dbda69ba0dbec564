"""Published numbers and the table that compares with them."""

import pytest

from srgan_plugin.metrics.protocol import EvaluationProtocol
from srgan_plugin.metrics.reference_results import MODELS, reference_result
from srgan_plugin.metrics.tables import format_table

RESULTS = {
    "Set5": {"PSNR": 30.2300, "SSIM": 0.8490, "PSNR_Y": 32.0, "SSIM_Y": 0.894},
    "B100": {"PSNR": 26.0, "SSIM": 0.7, "PSNR_Y": 27.5, "SSIM_Y": 0.73},
}
MSRRESNET, SRGAN = "msrresnet_x4c64b16_1x16_300k_div2k", "srgan_x4c64b16_1x16_1000k_div2k"
ORIGINS = {"Set5": "given", "B100": "MATLAB bicubic of GT"}


def table(**options):
    options = {"protocol": EvaluationProtocol(), "lr_origins": ORIGINS, **options}
    return format_table(RESULTS, **options)


def test_measured_published_and_difference_stand_below_each_other():
    assert table(model=MSRRESNET).splitlines() == [
        "set                  PSNR     SSIM   PSNR_Y  SSIM_Y",
        "Set5  measured    30.2300   0.8490  32.0000  0.8940",
        "      published   30.2252   0.8491        –       –",
        "      difference  +0.0048  -0.0001        –       –",
        "B100  measured    26.0000   0.7000  27.5000  0.7300",
        "",
        "Protocol: RGB and Y (BT.601), 4 pixels cut off each edge, output rounded to uint8; "
        "LR: given (Set5), MATLAB bicubic of GT (B100).",
        "Published: OpenMMLab model zoo, RGB, border 4, rounded.",
    ]


def test_without_a_model_nothing_is_compared():
    text = table()
    assert "published" not in text.lower()
    assert "difference" not in text


def test_a_set_that_is_not_whole_is_compared_with_nothing():
    text = table(model=MSRRESNET, missing_images={"Set5": "1 of 5 pictures", "B100": ""})
    assert "difference" not in text
    assert text.endswith("Not whole, so not comparable: Set5 (1 of 5 pictures).")


def test_measures_of_other_makers_are_not_given_our_protocol():
    assert "Protocol: that of the configured metrics; LR: given (Set5)" in table(protocol=None)


def test_a_measure_of_another_maker_has_a_column_of_its_own():
    results = {"Set5": {**RESULTS["Set5"], "NIQE": 5.25}, "B100": RESULTS["B100"]}
    text = format_table(results, protocol=None, lr_origins=ORIGINS, model=MSRRESNET)
    head, set5, published_row, difference, b100, *_ = text.splitlines()
    assert head.split() == ["set", "PSNR", "SSIM", "PSNR_Y", "SSIM_Y", "NIQE"]
    assert set5.split()[-1] == "5.2500"
    assert b100.split()[-1] == "–"
    assert published_row.split()[1:] == ["30.2252", "0.8491", "–", "–"]
    assert len(difference.split()) == 5


def test_a_measure_that_was_not_taken_is_a_dash():
    text = format_table(
        {"Set5": {"PSNR": 30.0}}, protocol=EvaluationProtocol(), lr_origins={}, model=MSRRESNET
    )
    assert "30.0000" in text and "LR: unknown (Set5)" in text
    assert text.splitlines()[3].split() == ["difference", "-0.2252", "–", "–", "–"]


def test_no_results_and_unknown_models_are_refused():
    with pytest.raises(ValueError, match="at least one test set"):
        format_table({}, protocol=EvaluationProtocol(), lr_origins={})
    with pytest.raises(ValueError, match=r"one of msrresnet_.*, .* got 'esrgan'"):
        table(model="esrgan")


@pytest.mark.parametrize(
    ("model", "dataset", "measure", "value"),
    [
        (MSRRESNET, "Set14", "PSNR", 26.7762),
        (MSRRESNET, "DIV2K", "SSIM", 0.8178),
        (SRGAN, "Set5", "PSNR", 27.9499),
        ("srgan_vgg54", "B100", "PSNR_Y", 25.16),
        ("srresnet", "Set5", "PSNR_Y", 32.05),
        ("bicubic", "Set5", "PSNR_Y", 28.43),
    ],
)
def test_published_values_come_with_their_source(model, dataset, measure, value):
    entry = reference_result(model, dataset, measure)
    assert entry.value == value
    assert ("Ledig" in entry.source) == measure.endswith("_Y")


def test_the_papers_ssim_is_never_compared_with():
    assert all(reference_result(model, "Set5", "SSIM_Y") is None for model in MODELS)


def test_a_set_without_a_published_value_has_none():
    assert reference_result(MSRRESNET, "Kodak24", "PSNR") is None
