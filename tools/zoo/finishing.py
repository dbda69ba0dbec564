"""Finish a trained generator: the best of start, end and means; or interpolated, mean colours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from srgan_plugin.checkpoints.detect import identify
from srgan_plugin.checkpoints.read_write import NOTE_KEY, load_checkpoint_file, save_atomically
from srgan_plugin.checkpoints.recorded_args import make_note
from srgan_plugin.data.benchmark_sets import Benchmark
from srgan_plugin.hosts.mmengine.engine.checkpoint_files import parse_iteration
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.io.download import sha256
from srgan_plugin.metrics import Scorer, evaluate
from srgan_plugin.networks import Generator, MSRResNet

#: Weight of the adversarially trained network in the interpolation, chosen by looking at images of
#: Set5, Set14 and Kodak24: artefacts, checkerboard and shifts of colour fall faster with it than
#: texture. NIQE is lowest for 1; on Kodak24 it is 3.64 for 0.8, 3.72 for 0.75 and 3.85 for 0.7.
SHARE: Final = 0.75
#: Number of photographs over which colours are averaged.
PHOTOGRAPHS: Final = 32
#: Height and width of the LR crops on which derivatives are computed.
CROP: Final = 32
#: Corrections of the mean colours, because their derivatives are not constant.
STEPS: Final = 3
AFTER_FEATURES: Final = ("upsample", "conv_hr", "conv_last")


def finish(start: Path, checkpoint: Path, target: Path, photographs: Benchmark) -> dict[str, str]:
    """Write a generator that is interpolated with its start, with the mean colours of GT.

    The interpolation is that of ESRGAN (Wang et al. 2018, sec. 3.4).

    Args:
        start: Weights of the MSRResNet that the adversarial training started from.
        checkpoint: Checkpoint of the adversarial training; averaged weights are preferred.
        target: Checkpoint to write.
        photographs: Training images, over which colours are averaged.

    Returns:
        What was done, as rows of a model card.
    """
    network = open_model(str(start), blend=SHARE, blend_with=str(checkpoint))
    assert isinstance(network, MSRResNet)
    step = -(-len(photographs.pairs) // PHOTOGRAPHS)
    indices = range(0, len(photographs.pairs), step)
    removed = match_mean_colours(network, photographs, indices)
    shift, pattern = removed.mean((1, 2)), removed - removed.mean((1, 2), keepdims=True)
    _save(network, checkpoint, target)
    return {
        "interpolation": f"{SHARE:g} of these weights and {1 - SHARE:g} of those of the start, "
        "which has fewer artefacts and most of the texture; chosen by eye on Set5, Set14, Kodak24",
        "colours": f"a mean shift of {', '.join(f'{value:+.2f}' for value in shift)} levels (RGB) "
        f"on {len(indices)} training photographs, and differences of up to "
        f"{np.abs(pattern).max():.2f} between the 16 pixels of an LR pixel, removed by the biases "
        "after the features",
    }


def add_detail(start: Path, srgan: Path, checkpoint: Path, target: Path) -> dict[str, str]:
    """Write a generator with two changes of the start's weights, by the training and by SRGAN.

    Trained for PSNR, `photo` removes texture with the noise, and SRGAN's change adds some: a
    direction in the space of weights, as in Ilharco et al. 2023 ("Editing models with task
    arithmetic"). On the held-out photographs with JPEG of quality 60 the sum has 24.63 dB and a
    NIQE of 5.34, with half of SRGAN's change 24.86 and 6.77, without it 24.94 and 7.28; MSRResNet
    has 24.30 and 6.85. On clean ones the sum has 27.46 dB, MSRResNet 28.24, which the stage
    of `distillation.py` after it repairs.

    Args:
        start: Weights of the MSRResNet that the training started from.
        srgan: Weights of the SRGAN.
        checkpoint: Checkpoint of the training; averaged weights are preferred.
        target: Checkpoint to write.

    Returns:
        What was done, as rows of a model card.
    """
    network = open_model(str(checkpoint))
    first, sharp = (open_model(str(path)).state_dict() for path in (start, srgan))
    with torch.no_grad():
        for name, weight in network.state_dict().items():
            begin = first[name]  # the order of the sums is that of the bundled weights
            weight.copy_(begin + ((weight - begin) + (sharp[name] - begin)))
    _save(network, checkpoint, target)
    return {
        "detail": "the difference between the weights of SRGAN "
        f"(file {sha256(srgan)[:8]}) and of MSRResNet, added after the training"
    }


def best_of_means(
    start: Path, checkpoints: Sequence[Path], target: Path, held_out: Benchmark
) -> dict[str, str]:
    """Write the best of the start and the end of a training, and of two means of weights.

    Start and end are good on other images, and their mean can be better than each, as in Wortsman
    et al. 2022 ("Model soups"). The mean of checkpoints, as in Izmailov et al. 2018 (SWA), is
    for a rate that does not fall.

    Args:
        start: Weights that the training started from.
        checkpoints: Checkpoints of the training, in order; averaged weights are preferred.
        target: Checkpoint to write.
        held_out: Images of which the PSNR decides.

    Returns:
        What was done, as rows of a model card.
    """
    checkpoint = checkpoints[-1]
    networks = {
        "the start": open_model(str(start)),
        "the end": open_model(str(checkpoint)),
        "their mean": open_model(str(start), blend=0.5, blend_with=str(checkpoint)),
    }
    if len(checkpoints) > 1:
        first = parse_iteration(checkpoints[0])
        name = f"the mean of the {len(checkpoints)} checkpoints from iteration {first:,} on"
        networks[name] = _mean(checkpoints)
    scorer = Scorer(["basicsr"], border=4)
    scores = {
        name: evaluate(Upscaler(network), held_out, scorer)["PSNR"]
        for name, network in networks.items()
    }
    best = max(scores, key=lambda name: scores[name])
    _save(networks[best], checkpoint, target)
    listed = ", ".join(f"{name} {score:.3f} dB" for name, score in scores.items())
    return {"bundled": f"{best}, by PSNR on the held-out photographs ({listed})"}


def _mean(checkpoints: Sequence[Path]) -> Generator:
    """Return the network whose weights are the mean of those of checkpoints."""
    network = open_model(str(checkpoints[0]))
    states = [open_model(str(path)).state_dict() for path in checkpoints]
    mean = {key: torch.stack([s[key].double() for s in states]).mean(0) for key in states[0]}
    network.load_state_dict(mean)
    return network


def _save(network: nn.Module, checkpoint: Path, target: Path) -> None:
    """Write the weights of a network with the arguments that `checkpoint` records."""
    found = identify(load_checkpoint_file(checkpoint))
    note = make_note(found.layout.network, found.arguments)
    save_atomically({"meta": {NOTE_KEY: note}, "state_dict": network.state_dict()}, target)


def match_mean_colours(
    network: MSRResNet, photographs: Benchmark, indices: Sequence[int]
) -> NDArray[np.float64]:
    """Change biases so that mean colours over photographs are those of GT, at each phase.

    The phases are the scale x scale pixels that an LR pixel becomes. Means that differ between them
    are a checkerboard, which adversarial training leaves. The biases after the features have the
    smallest change that corrects all means, by Newton's method.

    Args:
        network: Generator, changed in place.
        photographs: LR and GT images.
        indices: Images to average over.

    Returns:
        The difference that was removed, SR minus GT, (3, scale, scale), RGB, in levels of 255.
    """
    removed = None
    for _ in range(STEPS):
        difference = _mean_difference(network, photographs, indices)
        removed = difference if removed is None else removed
        _shift_means(network, -difference / 255, _crops(photographs, indices))
    assert removed is not None
    return removed


def _mean_difference(
    network: MSRResNet, photographs: Benchmark, indices: Sequence[int]
) -> NDArray[np.float64]:
    """Average SR minus GT over photographs and LR pixels: (3, scale, scale), in levels of 255."""
    upscale = Upscaler(network)
    differences = []
    for index in indices:
        pair = photographs.pairs[index]
        gt = np.asarray(pair.gt).astype(np.float64)
        difference = torch.from_numpy(upscale(np.asarray(pair.lr)) - gt).permute(2, 0, 1)
        differences.append(phase_means(difference[None], network.upscale_factor).numpy())
    mean: NDArray[np.float64] = np.mean(differences, axis=0)
    return mean


def phase_means(image: Tensor, scale: int) -> Tensor:
    """Average images (N, C, H, W) over LR pixels: (C, scale, scale)."""
    n, channels, height, width = image.shape
    blocks = image.reshape(n, channels, height // scale, scale, width // scale, scale)
    return blocks.mean((0, 2, 4))


def _crops(photographs: Benchmark, indices: Sequence[int]) -> Tensor:
    """Stack the centres of LR images, (N, 3, `CROP`, `CROP`), RGB in [0, 1]."""
    crops = []
    for index in indices:
        lr = np.asarray(photographs.pairs[index].lr)
        top, left = ((size - CROP) // 2 for size in lr.shape[:2])
        crops.append(lr[top : top + CROP, left : left + CROP])
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255


def _shift_means(network: MSRResNet, shift: NDArray[np.float64], lr: Tensor) -> None:
    """Change the biases after the features by the least that shifts the phases' means by `shift`.

    Args:
        network: Generator, changed in place.
        shift: (3, scale, scale), white is 1.
        lr: Images on which the derivatives are computed, (N, 3, h, w), RGB in [0, 1].
    """
    names = [name for name, _ in network.named_parameters() if name.endswith("bias")]
    biases = [network.get_parameter(name) for name in names if name.startswith(AFTER_FEATURES)]
    with torch.no_grad():
        features = network.extract_features(lr)
    means = phase_means(network.reconstruct(features, lr), network.upscale_factor).flatten()
    rows = [torch.autograd.grad(mean, biases, retain_graph=True) for mean in means]
    jacobian = torch.stack([torch.cat([*map(torch.flatten, row)]) for row in rows])
    step = torch.linalg.pinv(jacobian, rtol=1e-3) @ torch.from_numpy(shift.ravel()).to(jacobian)
    with torch.no_grad():
        sizes = [bias.numel() for bias in biases]
        for bias, change in zip(biases, torch.split(step, sizes), strict=True):
            bias.add_(change)
