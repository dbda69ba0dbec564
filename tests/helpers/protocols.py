"""Each evaluation protocol by other people's code or from its description, and what it measures."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from srgan_plugin.data.resize import imresize
from srgan_plugin.inference import open_model

Array = np.ndarray[Any, Any]
Measured = dict[str, float]


def saved(pred: Array) -> Array:
    """Return the uint8 image that BasicSR and MMEditing 0.x save and measure."""
    return np.rint(np.clip(pred.astype(np.float64), 0, 1) * 255).astype(np.uint8)


def skimage_ssim(a: Array, b: Array) -> float:
    """Return the SSIM of Wang et al. of one plane, whole windows only."""
    _, values = structural_similarity(
        a.astype(np.float64), b.astype(np.float64), gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=255, full=True,
    )  # fmt: skip
    return float(values[5:-5, 5:-5].mean())


def openmmlab_2020(pred: Array, gt: Array, border: int = 4) -> Measured:
    """As MMEditing 0.x: BGR images of uint8, cropped with an axis too many, channel by channel."""
    a, b = (image[:, :, ::-1].astype(np.float32) for image in (saved(pred), gt))
    if border:
        a, b = (image[border:-border, border:-border, None] for image in (a, b))
    mse = np.mean((a - b) ** 2)
    turns = a.shape[2]  # 1 with a border: the channels moved to the fourth axis
    ssims = [skimage_ssim(a[..., i].squeeze(), b[..., i].squeeze()) for i in range(turns)]
    return {
        "PSNR": float(20 * np.log10(255 / np.sqrt(mse))),
        f"SSIM{'_B' * (turns == 1)}": float(np.mean(ssims)),
    }


def mmagic_1x(pred: Array, gt: Array) -> Measured:
    """MMagic 1.x's own functions on what its preprocessor hands them: clamped floats, BGR."""
    from mmagic.evaluation.metrics.psnr import psnr
    from mmagic.evaluation.metrics.ssim import ssim

    bgr = [image[:, :, ::-1] for image in (np.clip(pred, 0, 1) * 255, gt)]
    options = {"crop_border": 4, "input_order": "HWC", "channel_order": "bgr"}
    return {"PSNR_unrounded": psnr(*bgr, **options), "SSIM_unrounded": ssim(*bgr, **options)}


def basicsr(pred: Array, gt: Array) -> Measured:
    """BasicSR's own functions on the image that it saves."""
    from basicsr.metrics import calculate_metric

    images = {"img": saved(pred)[:, :, ::-1], "img2": gt[:, :, ::-1]}
    return {
        name: float(
            calculate_metric(images, {"type": f"calculate_{name.lower()}", "crop_border": 4})
        )
        for name in ("PSNR", "SSIM")
    }


def _luma(image: Array) -> Array:
    """Return luma as MATLAB's `rgb2ycbcr(im2double(…))` times 255 has it, by scikit-image."""
    y: Array = rgb2ycbcr(image)[4:-4, 4:-4, 0]
    return y


def paper(pred: Array, gt: Array) -> Measured:
    """PSNR on the y-channel, a strip of 4 pixels removed from each border."""
    a, b = _luma(saved(pred)), _luma(gt)
    return {"PSNR_Y": float(peak_signal_noise_ratio(b, a, data_range=255))}


def y(pred: Array, gt: Array) -> Measured:
    """As the MATLAB scripts of EDSR's and RCAN's time, by scikit-image."""
    return {**paper(pred, gt), "SSIM_Y": skimage_ssim(_luma(saved(pred)), _luma(gt))}


#: By the names of `srgan_plugin.metrics.PROTOCOLS`.
ORACLES: dict[str, Callable[[Array, Array], Measured]] = {
    "openmmlab-2020": openmmlab_2020,
    "mmagic-1.x": mmagic_1x,
    "basicsr": basicsr,
    "paper": paper,
    "y": y,
}


def by_network(lr: Array) -> Array:
    """Upscale by the bundled MSRResNet, without rounding."""
    network = open_model("msrresnet")
    with torch.inference_mode():
        sr = network(torch.from_numpy(lr.transpose(2, 0, 1))[None].float() / 255)[0]
    return sr.permute(1, 2, 0).numpy()


#: What is measured: functions of (h, w, 3) uint8 to floating point in about 0 to 1.
METHODS: dict[str, Callable[[Array], Array]] = {
    "bicubic": lambda lr: imresize(lr / 255, 4),
    "msrresnet": by_network,
}
