"""SRGAN generators of TensorFlow's kind, in NumPy: slow, obvious, apart from the package.

Images and features are (height, width, channels), kernels (height, width, in, out). Written down
from tensorlayer/SRGAN's and krasserm/super-resolution's scripts.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Named = list[tuple[str, str, Array]]  # layer, parameter, value, in the order of the layers
WIDTH, BLOCKS = 4, 4


def conv(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """Padding 'same', stride 1."""
    high, wide = kernel.shape[:2]
    edges = (high // 2, high // 2), (wide // 2, wide // 2), (0, 0)
    padded = np.pad(x, edges)
    out = np.zeros((*x.shape[:2], kernel.shape[3]))
    for row in range(high):
        for column in range(wide):
            shifted = padded[row : row + x.shape[0], column : column + x.shape[1]]
            out += shifted @ kernel[row, column]
    return out if bias is None else out + bias


def depth_to_space(x: Array) -> Array:
    """TensorFlow's, by 2: channel (row * 2 + column) * depth + c becomes channel c."""
    height, width, channels = x.shape
    depth = channels // 4
    out = np.zeros((2 * height, 2 * width, depth))
    for row in range(2):
        for column in range(2):
            for c in range(depth):
                out[row::2, column::2, c] = x[:, :, (row * 2 + column) * depth + c]
    return out


def pixel_shuffle(x: Array) -> Array:
    """torch's and PaddlePaddle's, by 2: channel c * 4 + row * 2 + column becomes channel c."""
    out = np.zeros((2 * x.shape[0], 2 * x.shape[1], x.shape[2] // 4))
    for c in range(x.shape[2] // 4):
        for row in range(2):
            for column in range(2):
                out[row::2, column::2, c] = x[:, :, c * 4 + row * 2 + column]
    return out


class Network:
    """Parameters that are made when a layer is first applied, and used in that order again."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._made: list[dict[str, Array]] = []
        self._next: Iterator[dict[str, Array]] = iter(())
        self.kinds: list[str] = []

    def start(self) -> None:
        self._next = iter(self._made[:])

    def parameters(self, kind: str, **shapes: tuple[int, ...]) -> dict[str, Array]:
        if (found := next(self._next, None)) is not None:
            return found
        made = {}
        for name, shape in shapes.items():
            low, high = (0.3, 2.0) if "var" in name else (0.1, 0.6)
            if len(shape) == 4:
                high = (3 / np.prod(shape[:3])) ** 0.5 * (0.3 if shape[3] == 3 else 1)
                low = -high
            made[name] = self._random.uniform(low, high, shape).astype("f4").astype("f8")
        self._made.append(made)
        self.kinds.append(kind)
        return made

    def named(self, numbers: dict[str, int]) -> Named:
        """Name layers as a process does in which others were made before: from these numbers."""
        count = dict(numbers)
        names: Named = []
        for kind, parameters in zip(self.kinds, self._made, strict=True):
            layer = f"{kind}_{count[kind]}" if count[kind] else kind
            count[kind] += 1
            names += [(layer, name, value) for name, value in parameters.items()]
        return names


class TensorLayer(Network):
    """tensorlayer/SRGAN's SRGAN_g: [-1, 1] in and out."""

    shuffle = staticmethod(depth_to_space)

    def _conv(self, x: Array, outs: int, size: int = 3, bias: bool = True) -> Array:
        shapes = {"filters": (size, size, x.shape[2], outs)} | ({"biases": (outs,)} if bias else {})
        return conv(x, *self.parameters("conv2d", **shapes).values())

    def _norm(self, x: Array) -> Array:
        names = "beta", "gamma", "moving_mean", "moving_var"
        p = self.parameters("batchnorm2d", **dict.fromkeys(names, (x.shape[2],)))
        return (x - p["moving_mean"]) / np.sqrt(p["moving_var"] + 1e-5) * p["gamma"] + p["beta"]

    def __call__(self, image: Array, steps: int) -> Array:
        def relu(x: Array) -> Array:
            return np.maximum(x, 0)

        self.start()
        x = first = relu(self._conv(image / 127.5 - 1, WIDTH))
        for _ in range(BLOCKS):
            y = relu(self._norm(self._conv(x, WIDTH, bias=False)))
            x = x + self._norm(self._conv(y, WIDTH, bias=False))
        x = self._norm(self._conv(x, WIDTH, bias=False)) + first
        for _ in range(steps):
            x = relu(self.shuffle(self._conv(x, 4 * WIDTH)))
        return (np.tanh(self._conv(x, 3, size=1)) + 1) * 127.5


class TensorLayerOfTorch(TensorLayer):
    """The same with the PaddlePaddle or torch backend of TensorLayerX, whose shuffle is torch's."""

    shuffle = staticmethod(pixel_shuffle)


class Keras(Network):
    """krasserm/super-resolution's sr_resnet: [0, 255] in and out."""

    epsilon = 1e-3

    def end(self, x: Array) -> Array:
        return np.tanh(x)

    def _conv(self, x: Array, outs: int, size: int = 3) -> Array:
        p = self.parameters("conv2d", kernel=(size, size, x.shape[2], outs), bias=(outs,))
        return conv(x, p["kernel"], p["bias"])

    def _norm(self, x: Array) -> Array:
        names = "gamma", "beta", "moving_mean", "moving_variance"
        p = self.parameters("batch_normalization", **dict.fromkeys(names, (x.shape[2],)))
        deviation = np.sqrt(p["moving_variance"] + self.epsilon)
        return (x - p["moving_mean"]) / deviation * p["gamma"] + p["beta"]

    def _prelu(self, x: Array) -> Array:
        alpha = self.parameters("p_re_lu", alpha=(1, 1, x.shape[2]))["alpha"]
        return np.maximum(x, 0) + alpha * np.minimum(x, 0)

    def __call__(self, image: Array, steps: int) -> Array:
        self.start()
        x = first = self._prelu(self._conv(image / 255, WIDTH, size=9))
        for _ in range(BLOCKS):
            y = self._prelu(self._norm(self._conv(x, WIDTH)))
            x = x + self._norm(self._conv(y, WIDTH))
        x = self._norm(self._conv(x, WIDTH)) + first
        for _ in range(steps):
            x = self._prelu(depth_to_space(self._conv(x, 4 * WIDTH)))
        return (self.end(self._conv(x, 3, size=9)) + 1) * 127.5
