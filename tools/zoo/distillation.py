"""Training pairs whose targets are outputs of networks.

The mean of a network's outputs over the eight flips and transpositions of its input has a higher
PSNR than one output. The network is trained to reach it: GT has details that LR does not determine,
which are noise in the gradients, and the self-ensemble does not have them.

A network that restores degraded LR images loses PSNR on clean ones, the more the more texture it
adds. It is trained to its own output on degraded LR, and to that of another network on clean LR.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from srgan_plugin.data.degradation import DegradationParams, degrade
from srgan_plugin.data.pairs import GT_STORE, ImagePairs, lr_store_name
from srgan_plugin.data.sampling import SampleIndex
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.atomic import atomic_directory
from srgan_plugin.io.lmdb_writer import StoreWriter
from srgan_plugin.networks.self_ensemble import self_ensemble

Sample = tuple[str, RGBArray, RGBArray]  # key, LR, target

SHARE: Final = 0.5  # share of the self-ensemble in a target


def make_target(network: Callable[[Tensor], Tensor], lr: RGBArray, gt: RGBArray) -> RGBArray:
    """Average GT and the self-ensemble of a network, which computes in bfloat16.

    Args:
        network: Maps LR in [0, 1], (1, 3, h, w), to SR, (1, 3, H, W).
        lr: LR image, (h, w, 3), uint8.
        gt: GT image, (H, W, 3), uint8.

    Returns:
        The target, (H, W, 3), uint8.
    """
    batch = torch.from_numpy(lr.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        sr = self_ensemble(lambda x: network(x).float(), batch)[0].clamp(0, 1)
    mean: RGBArray = np.rint(SHARE * 255 * sr.permute(1, 2, 0).numpy() + (1 - SHARE) * gt)
    return mean.astype(np.uint8)


def write_targets(
    network: Callable[[Tensor], Tensor], store: Path, folder: Path, scale: int = 4
) -> None:
    """Write a training store with the LR images of another one and targets as GT.

    Args:
        network: See `make_target`.
        store: Folder written by `create_store`.
        folder: Folder to create, complete or not at all.
        scale: GT size over LR size.
    """
    pairs = (
        (key, np.asarray(lr), np.asarray(gt)) for key, lr, gt in ImagePairs(store, scale=scale)
    )
    _write(folder, scale, ((key, lr, make_target(network, lr, gt)) for key, lr, gt in pairs))


def write_restored_targets(
    restore: Callable[[RGBArray], RGBArray],
    upscale: Callable[[RGBArray], RGBArray],
    params: DegradationParams,
    store: Path,
    folder: Path,
    scale: int = 4,
) -> None:
    """Write a training store of degraded and clean LR images, and of two networks' outputs as GT.

    Args:
        restore: Makes the target of a degraded LR image.
        upscale: Makes that of a clean one.
        params: The degradation, which depends on the number of the sample only.
        store: Folder written by `create_store`.
        folder: Folder to create, complete or not at all.
        scale: GT size over LR size.
    """

    def samples() -> Iterator[Sample]:
        for number, (key, image, _) in enumerate(ImagePairs(store, scale=scale)):
            lr = np.asarray(image)
            degraded = degrade(lr, params, SampleIndex(number, 0, number))
            yield key, degraded, (upscale if degraded is lr else restore)(degraded)

    _write(folder, scale, samples())


def _write(folder: Path, scale: int, samples: Iterable[Sample]) -> None:
    with (
        atomic_directory(folder) as building,
        StoreWriter(building / GT_STORE, "raw") as targets,
        StoreWriter(building / lr_store_name(scale), "raw") as inputs,
    ):
        for key, lr, target in samples:
            inputs.put(key, lr)
            targets.put(key, target)
