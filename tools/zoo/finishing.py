"""Finish a trained generator: the best of start, end and mean; or interpolated, mean colours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from srgan_plugin.checkpoints.detect import identify
from srgan_plugin.checkpoints.read_write import NOTE_KEY, load_checkpoint_file, save_atomically
from srgan_plugin.checkpoints.recorded_args import make_note
from srgan_plugin.data.benchmark_sets import Benchmark
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.metrics import Scorer, evaluate
from srgan_plugin.networks import MSRResNet

#: Weight of the adversarially trained network in the interpolation, chosen by looking at images of
#: Set5, Set14 and Kodak24: artefacts and shifts of colour fall faster with it than texture. NIQE on
#: these sets hardly changes; on the held-out photographs it is lowest for 1 (4.08; 4.37 for 0.8).
SHARE: Final = 0.8
#: Number of photographs over which colours are averaged.
PHOTOGRAPHS: Final = 32


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
    shift = remove_colour_shift(network, photographs, indices)
    _save(network, checkpoint, target)
    return {
        "interpolation": f"{SHARE:g} of these weights and {1 - SHARE:g} of those of the start, "
        "which has fewer artefacts and most of the texture; chosen by eye on Set5, Set14, Kodak24",
        "colours": f"a mean shift of {', '.join(f'{value:+.2f}' for value in shift)} levels (RGB) "
        f"on {len(indices)} training photographs, removed by the last bias",
    }


def best_of_start_end_mean(
    start: Path, checkpoint: Path, target: Path, held_out: Benchmark
) -> dict[str, str]:
    """Write the best of the weights of a training, those that it started from, and their mean.

    Start and end are good on other images, and their mean can be better than each, as in Wortsman
    et al. 2022 ("Model soups").

    Args:
        start: Weights that the training started from.
        checkpoint: Checkpoint of the training; averaged weights are preferred.
        target: Checkpoint to write.
        held_out: Images of which the PSNR decides.

    Returns:
        What was done, as rows of a model card.
    """
    networks = {
        "the start": open_model(str(start)),
        "the end": open_model(str(checkpoint)),
        "their mean": open_model(str(start), blend=0.5, blend_with=str(checkpoint)),
    }
    scorer = Scorer(["basicsr"], border=4)
    scores = {
        name: evaluate(Upscaler(network), held_out, scorer)["PSNR"]
        for name, network in networks.items()
    }
    best = max(scores, key=lambda name: scores[name])
    _save(networks[best], checkpoint, target)
    listed = ", ".join(f"{name} {score:.3f} dB" for name, score in scores.items())
    return {"bundled": f"{best}, by PSNR on the held-out photographs ({listed})"}


def _save(network: nn.Module, checkpoint: Path, target: Path) -> None:
    """Write the weights of a network with the arguments that `checkpoint` records."""
    found = identify(load_checkpoint_file(checkpoint))
    note = make_note(found.layout.network, found.arguments)
    save_atomically({"meta": {NOTE_KEY: note}, "state_dict": network.state_dict()}, target)


def remove_colour_shift(
    network: MSRResNet, photographs: Benchmark, indices: Sequence[int]
) -> NDArray[np.float64]:
    """Change the last bias so that the mean colour over photographs is that of GT.

    Args:
        network: Generator, changed in place.
        photographs: LR and GT images.
        indices: Images to average over.

    Returns:
        The shift that was removed: SR minus GT by channel (RGB), in levels of 255.
    """
    upscale = Upscaler(network)
    shifts = []
    for index in indices:
        pair = photographs.pairs[index]
        sr, gt = upscale(np.asarray(pair.lr)), np.asarray(pair.gt)
        shifts.append(sr.mean((0, 1), dtype=np.float64) - gt.mean((0, 1), dtype=np.float64))
    shift: NDArray[np.float64] = np.mean(shifts, axis=0)
    bias = network.conv_last.bias
    assert bias is not None
    with torch.no_grad():
        bias -= torch.as_tensor(shift / 255).to(bias)
    return shift
