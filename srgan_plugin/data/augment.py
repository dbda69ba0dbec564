"""Whole batches of training samples: the steps of a pipeline, known and done without a detour."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .images import Image
from .pairs import ImagePairs
from .patches import Draw, augment, crop_pair, random_flips


class Recipe(NamedTuple):
    """What is done to each pair: crop, flip columns, flip rows, transpose, in this order.

    Args:
        gt_patch_size: Side of the crop in the ground truth, in pixels.
        scale: How many times larger the ground truth is.
        hflip: Probability that left and right are swapped.
        vflip: Probability that top and bottom are swapped.
        transpose: Probability that rows and columns are swapped.
    """

    gt_patch_size: int
    scale: int
    hflip: float = 0.0
    vflip: float = 0.0
    transpose: float = 0.0


class Names(NamedTuple):
    """What the pictures of a pair are called."""

    key: str
    lr: str
    gt: str


class Batch(NamedTuple):
    """N samples: uint8, RGB; the channels of a pixel lie together, as torch's `channels_last`.

    Args:
        lr: Low resolution, (N, 3, S / scale, S / scale).
        gt: Ground truth, (N, 3, S, S).
        names: Of each sample's pair.
    """

    lr: Image
    gt: Image
    names: list[Names]


def read_batch(pairs: ImagePairs, draws: Sequence[Draw], recipe: Recipe) -> Batch:
    """Reads the samples that were drawn, as `crop_pair` and `augment` make each.

    Args:
        pairs: The pictures.
        draws: The samples.
        recipe: What becomes of each.

    Raises:
        ValueError: As `crop_pair`, or if a picture cannot be read.
    """
    size, scale, *probabilities = recipe
    lr = np.empty((len(draws), size // scale, size // scale, 3), np.uint8)
    gt = np.empty((len(draws), size, size, 3), np.uint8)
    names = []
    for number, draw in enumerate(draws):
        pair = pairs[draw]
        lr_crop, gt_crop = crop_pair(pair.lr, pair.gt, size, scale, draw, pair.gt.name)
        flips = random_flips(draw, *probabilities)
        augment(lr_crop, *flips, out=lr[number])
        augment(gt_crop, *flips, out=gt[number])
        names.append(Names(pair.key, pair.lr.name, pair.gt.name))
    return Batch(lr.transpose(0, 3, 1, 2), gt.transpose(0, 3, 1, 2), names)
