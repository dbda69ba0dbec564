"""Published numbers and the tables that compare with them."""

import pytest

from srgan_plugin.errors import UserError
from srgan_plugin.metrics import Scorer, format_comparison, format_table, reference_results
from srgan_plugin.metrics.reference_results import MODELS

RESULTS = {
    "Set5": {"PSNR": 30.2300, "SSIM": 0.8650, "PSNR_Y": 32.0, "SSIM_Y": 0.894, "SSIM_B": 0.8490},
    "B100": {"PSNR": 26.0, "SSIM": 0.7, "PSNR_Y": 27.5, "SSIM_Y": 0.73, "SSIM_B": 0.69},
}
MSRRESNET, SRGAN = "msrresnet_x4c64b16_1x16_300k_div2k", "srgan_x4c64b16_1x16_1000k_div2k"
ORIGINS = {"Set5": "given", "B100": "MATLAB bicubic of GT"}


def table(**options):
    options = {"scorer": Scorer(), "lr_origins": ORIGINS, **options}
    return format_table(RESULTS, **options)


def test_each_published_value_stands_beside_the_measure_that_made_it_and_the_right_one():
    lines = table(model=MSRRESNET).splitlines()
    assert lines[:3] == [
        "set      PSNR    SSIM   PSNR_Y  SSIM_Y  SSIM_B",
        "Set5  30.2300  0.8650  32.0000  0.8940  0.8490",
        "B100  26.0000  0.7000  27.5000  0.7300  0.6900",
    ]
    assert lines[4:7] == [
        "set         published  measured, openmmlab-2020  difference  measured, basicsr",
        "Set5  PSNR    30.2252                   30.2300     +0.0048            30.2300",
        "Set5  SSIM     0.8491                    0.8490     -0.0001             0.8650",
    ]
    assert "OpenMMLab" in lines[7]
    assert "blue" in lines[7]
    conditions = "\n".join(lines[9:])
    assert [word for word in ("4 pixels", "openmmlab-2020", "basicsr") if word in conditions]
    assert "LR: given (Set5), MATLAB bicubic of GT (B100)." in conditions


def test_the_papers_ssim_is_shown_and_compared_with_nothing():
    head, psnr, ssim, *_ = format_comparison(RESULTS, "srresnet").splitlines()
    assert head.split("  ")[-1].strip() == "measured, y"
    assert psnr.split() == ["Set5", "PSNR", "32.0500", "32.0000", "-0.0500", "32.0000"]
    assert ssim.split() == ["Set5", "SSIM", "0.9019", "–", "–", "0.8940"]


def test_without_a_model_nothing_is_compared():
    text = table()
    assert "published" not in text.lower()
    assert "difference" not in text


def test_a_set_that_is_not_complete_is_compared_with_nothing():
    text = table(model=MSRRESNET, missing_images={"Set5": "1 of 5 images", "B100": ""})
    assert "difference" not in text
    assert text.endswith("not compared with published values: Set5 (1 of 5 images).")


def test_a_set_that_transforms_changed_is_compared_with_nothing_and_they_are_named():
    text = table(model=MSRRESNET, changed_by={"Set5": "DegradeLR", "B100": ""})
    assert "difference" not in text
    assert text.endswith("not compared with published values: Set5 (DegradeLR).")


def test_measures_of_other_metrics_are_not_given_a_protocol():
    assert "Protocol: that of the configured metrics" in table(scorer=None)


def test_a_measure_of_another_metric_has_a_column_of_its_own():
    results = {"Set5": {**RESULTS["Set5"], "NIQE": 5.25}, "B100": RESULTS["B100"]}
    head, set5, b100, *_ = format_table(results, scorer=None, lr_origins=ORIGINS).splitlines()
    assert head.split()[-1] == "NIQE"
    assert set5.split()[-1] == "5.2500"
    assert b100.split()[-1] == "–"


def test_a_measure_that_was_not_taken_is_a_dash():
    text = format_table({"Set5": {"PSNR": 30.0}}, scorer=Scorer(), lr_origins={}, model=MSRRESNET)
    assert "LR: unknown (Set5)" in text
    assert text.splitlines()[1].split() == ["Set5", "30.0000", *"––––"]
    rows = [line.split() for line in text.splitlines()]
    assert ["Set5", "PSNR", "30.2252", "30.0000", "-0.2252", "30.0000"] in rows
    assert ["Set5", "SSIM", "0.8491", "–", "–", "–"] in rows


def test_no_results_and_unknown_models_are_refused():
    with pytest.raises(ValueError, match="at least one test set"):
        format_table({}, scorer=Scorer(), lr_origins={})
    with pytest.raises(ValueError, match=r"one of 'msrresnet_.*, .* got 'esrgan'"):
        table(model="esrgan")


@pytest.mark.parametrize(
    ("model", "dataset", "kind", "value", "metric", "right"),
    [
        (MSRRESNET, "Set14", "PSNR", 26.7762, "PSNR", "PSNR"),
        (MSRRESNET, "DIV2K", "SSIM", 0.8178, "SSIM_B", "SSIM"),
        (SRGAN, "Set5", "PSNR", 27.9499, "PSNR", "PSNR"),
        ("001_MSRResNet_x4_f64b16_DIV2K_1000k_B16G1_wandb", "Set5", "SSIM", 0.8651, "SSIM", "SSIM"),
        ("srgan_vgg54", "B100", "PSNR", 25.16, "PSNR_Y", "PSNR_Y"),
        ("srresnet", "Set5", "SSIM", 0.9019, None, "SSIM_Y"),
        ("bicubic", "Set5", "PSNR", 28.43, "PSNR_Y", "PSNR_Y"),
    ],
)
def test_published_values_come_with_the_measure_that_made_them(
    model, dataset, kind, value, metric, right
):
    entry = reference_results(model, dataset)[kind]
    assert (entry.value, entry.metric, entry.second_metric) == (value, metric, right)


def test_each_published_value_can_be_measured_by_the_default_protocols():
    measured = set(Scorer().metrics) | {None}
    for model in MODELS:
        for entry in reference_results(model, "Set5").values():
            assert {entry.metric, entry.second_metric} <= measured


def test_a_set_without_a_published_value_has_none():
    assert reference_results(MSRRESNET, "Kodak24") == {}


@pytest.mark.parametrize(
    ("scorer", "compared"),
    [
        (Scorer(), True),
        (Scorer(border=2), False),
        (Scorer(border=0), False),
        (Scorer(rounding=False), False),
        (None, False),
    ],
)
def test_values_of_another_border_or_not_rounded_are_not_put_beside_published_ones(
    scorer: Scorer | None, compared: bool
) -> None:
    text = format_table(
        {"Set5": {"PSNR": 27.9, "SSIM": 0.79, "SSIM_B": 0.78}},
        scorer=scorer,
        lr_origins={},
        model="srgan_x4c64b16_1x16_1000k_div2k",
    )
    row = next(line for line in text.splitlines() if line.startswith("Set5  PSNR"))
    assert ("27.9000" in row) == compared
    with pytest.raises(UserError, match="reference model"):
        format_table({"Set5": {}}, scorer=scorer, lr_origins={}, model="")
