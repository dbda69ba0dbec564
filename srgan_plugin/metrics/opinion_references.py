"""The mean opinion scores of the SRGAN paper, x4, from 1 (bad) to 5 (excellent)."""

from typing import Final

SOURCE: Final = "Ledig et al. 2016, tables 1 and 2, 26 raters"

# By test set: the number of images, and scores by method (names of the paper in lower case). Those
# with suffixes are from table 1, the others from table 2: `srresnet` is SRResNet-MSE, `srgan` is
# SRGAN-VGG54.
_OPINIONS: Final[dict[str, tuple[int, dict[str, float]]]] = {
    "Set5": (
        5,
        {
            "nearest": 1.28,
            "bicubic": 1.97,
            "srcnn": 2.57,
            "selfexsr": 2.65,
            "drcn": 3.26,
            "espcn": 2.89,
            "srresnet": 3.37,
            "srresnet-vgg22": 3.46,
            "srgan-mse": 3.77,
            "srgan-vgg22": 3.78,
            "srgan": 3.58,
            "hr": 4.32,
        },
    ),
    "Set14": (
        14,
        {
            "nearest": 1.20,
            "bicubic": 1.80,
            "srcnn": 2.26,
            "selfexsr": 2.34,
            "drcn": 2.84,
            "espcn": 2.52,
            "srresnet": 2.98,
            "srresnet-vgg22": 3.15,
            "srgan-mse": 3.43,
            "srgan-vgg22": 3.57,
            "srgan": 3.72,
            "hr": 4.32,
        },
    ),
    "BSD100": (
        100,
        {
            "nearest": 1.11,
            "bicubic": 1.47,
            "srcnn": 1.87,
            "selfexsr": 1.89,
            "drcn": 2.12,
            "espcn": 2.01,
            "srresnet": 2.29,
            "srgan": 3.56,
            "hr": 4.46,
        },
    ),
}
DATASETS: Final = tuple(_OPINIONS)


def paper_opinions(dataset: str) -> tuple[dict[str, float], int]:
    """Look up the paper's mean opinion scores of a test set.

    Args:
        dataset: Name of a test set, such as those in `DATASETS`.

    Returns:
        Scores by method (lower case), and the number of images that were rated, with which scores
        of a part of the set are not comparable. An empty dict and 0 for other sets.
    """
    size, opinions = _OPINIONS.get(dataset, (0, {}))
    return dict(opinions), size
