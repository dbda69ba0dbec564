"""Generators of SRGAN repositories as their own code names and computes them.

Written down from what each repository's scripts do, apart from the table of the package: module
names as they are there, the forward pass, and how its own test script maps pixels in [0, 1] to the
network's input and its output back. Widths and numbers of blocks are small.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

WIDTH, BLOCKS = 6, 2
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def conv(ins: int, outs: int, kernel: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(ins, outs, kernel, padding=kernel // 2, bias=bias)


class Tree(nn.Module):
    """Modules under given names; a name with dots makes the modules in between."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *_: Tensor) -> Tensor:
        raise NotImplementedError


def tree(parts: dict[str, nn.Module]) -> Tree:
    root = Tree()
    for name, part in parts.items():
        *path, last = name.split(".")
        node: nn.Module = root
        for step in path:
            if step not in node._modules:
                node.add_module(step, Tree())
            node = node.get_submodule(step)
        node.add_module(last, part)
    return root


class Generator(nn.Module):
    """Modules by the repository's names, and what its forward pass does with them."""

    def __init__(
        self, parts: dict[str, nn.Module], run: Callable[["Generator", Tensor], Tensor]
    ) -> None:
        super().__init__()
        for name, part in tree(parts).named_children():
            self.add_module(name, part)
        self.run = run

    def __getitem__(self, name: str) -> nn.Module:
        return self.get_submodule(name)

    def chain(self, x: Tensor, names: str) -> Tensor:
        for name in names.split():
            x = self.get_submodule(name)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def erik(scale: int, modern: bool = True) -> Generator:
    eps, act = (0.8, nn.PReLU) if modern else (1e-5, nn.ReLU)
    parts = {"conv1.0": conv(3, WIDTH, 9), "conv1.1": act()}
    for n in range(BLOCKS):
        inside = (
            *(conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH, eps), act()),
            *(conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH, eps)),
        )
        parts[f"res_blocks.{n}.conv_block"] = nn.Sequential(*inside)
    parts |= {"conv2.0": conv(WIDTH, WIDTH, 3), "conv2.1": nn.BatchNorm2d(WIDTH, eps)}
    up = []
    for _ in range({2: 1, 4: 2}[scale]):
        up += [conv(WIDTH, 4 * WIDTH, 3), nn.BatchNorm2d(4 * WIDTH), nn.PixelShuffle(2), act()]
    parts |= {"upsampling": nn.Sequential(*up), "conv3.0": conv(WIDTH, 3, 9)}

    def run(net: Generator, x: Tensor) -> Tensor:
        first = y = net.chain(x, "conv1.0 conv1.1")
        for n in range(BLOCKS):
            y = y + net[f"res_blocks.{n}.conv_block"](y)
        y = first + net.chain(y, "conv2.0 conv2.1")
        return torch.tanh(net.chain(y, "upsampling conv3.0"))

    return Generator(parts, run)


def aladdin(scale: int) -> Generator:
    parts = {"initial.cnn": conv(3, WIDTH, 9), "initial.act": nn.PReLU(WIDTH)}
    for n in range(BLOCKS):
        for part in ("block1", "block2"):
            name = f"residuals.{n}.{part}"
            parts[f"{name}.cnn"] = conv(WIDTH, WIDTH, 3, bias=False)
            parts[f"{name}.bn"] = nn.BatchNorm2d(WIDTH)
            parts[f"{name}.act"] = nn.PReLU(WIDTH)
    parts["convblock.cnn"] = conv(WIDTH, WIDTH, 3, bias=False)
    parts |= {"convblock.bn": nn.BatchNorm2d(WIDTH), "convblock.act": nn.PReLU(WIDTH)}
    steps = {2: 1, 4: 2}[scale]
    for n in range(steps):
        parts[f"upsamples.{n}.conv"] = conv(WIDTH, 4 * WIDTH, 3)
        parts[f"upsamples.{n}.act"] = nn.PReLU(WIDTH)
    parts["final"] = conv(WIDTH, 3, 9)

    def run(net: Generator, x: Tensor) -> Tensor:
        first = y = net.chain(x, "initial.cnn initial.act")
        for n in range(BLOCKS):
            name = f"residuals.{n}"
            z = net.chain(y, f"{name}.block1.cnn {name}.block1.bn {name}.block1.act")
            y = net.chain(z, f"{name}.block2.cnn {name}.block2.bn") + y
        y = net.chain(y, "convblock.cnn convblock.bn") + first
        for n in range(steps):
            y = net[f"upsamples.{n}.act"](torch.pixel_shuffle(net[f"upsamples.{n}.conv"](y), 2))
        return torch.tanh(net["final"](y))

    return Generator(parts, run)


def leftthomas(scale: int, *, end: str = "norm", act: str = "prelu") -> Generator:
    parts = {"block1.0": conv(3, WIDTH, 9), "block1.1": nn.PReLU()}
    for n in range(2, 7):
        parts |= {f"block{n}.conv{m}": conv(WIDTH, WIDTH, 3) for m in (1, 2)}
        parts |= {f"block{n}.bn{m}": nn.BatchNorm2d(WIDTH) for m in (1, 2)}
        if act == "prelu":
            parts[f"block{n}.prelu"] = nn.PReLU()
    parts["block7.0"] = conv(WIDTH, WIDTH, 3)
    parts["block7.1"] = nn.BatchNorm2d(WIDTH) if end == "norm" else nn.PReLU()
    steps = {2: 1, 4: 2, 8: 3}[scale]
    for n in range(steps):
        parts[f"block8.{n}.conv"] = conv(WIDTH, 4 * WIDTH, 3)
        if act == "prelu":
            parts[f"block8.{n}.prelu"] = nn.PReLU()
    parts[f"block8.{steps}"] = conv(WIDTH, 3, 9)

    def run(net: Generator, x: Tensor) -> Tensor:
        def activate(name: str, z: Tensor) -> Tensor:
            return net[f"{name}.prelu"](z) if act == "prelu" else z * torch.sigmoid(z)

        first = y = net.chain(x, "block1.0 block1.1")
        for name in (f"block{n}" for n in range(2, 7)):
            z = activate(name, net.chain(y, f"{name}.conv1 {name}.bn1"))
            y = y + net.chain(z, f"{name}.conv2 {name}.bn2")
        y = first + net.chain(y, "block7.0 block7.1")
        for name in (f"block8.{n}" for n in range(steps)):
            y = activate(name, torch.pixel_shuffle(net[f"{name}.conv"](y), 2))
        return (torch.tanh(net[f"block8.{steps}"](y)) + 1) / 2

    return Generator(parts, run)


def lornatang(scale: int, names: tuple[str, str, str] = ("conv1", "conv2", "conv3")) -> Generator:
    first_name, trunk_name, last_name = names
    parts = {f"{first_name}.0": conv(3, WIDTH, 9), f"{first_name}.1": nn.PReLU()}
    for n in range(BLOCKS):
        inside = (
            *(conv(WIDTH, WIDTH, 3, False), nn.BatchNorm2d(WIDTH), nn.PReLU()),
            *(conv(WIDTH, WIDTH, 3, False), nn.BatchNorm2d(WIDTH)),
        )
        parts[f"trunk.{n}.rcb"] = nn.Sequential(*inside)
    parts[f"{trunk_name}.0"] = conv(WIDTH, WIDTH, 3, bias=False)
    parts[f"{trunk_name}.1"] = nn.BatchNorm2d(WIDTH)
    steps = {2: 1, 4: 2, 8: 3}[scale]
    for n in range(steps):
        inside = conv(WIDTH, 4 * WIDTH, 3), nn.PixelShuffle(2), nn.PReLU()
        parts[f"upsampling.{n}.upsample_block"] = nn.Sequential(*inside)
    parts[last_name] = conv(WIDTH, 3, 9)

    def run(net: Generator, x: Tensor) -> Tensor:
        first = y = net.chain(x, f"{first_name}.0 {first_name}.1")
        for n in range(BLOCKS):
            y = net[f"trunk.{n}.rcb"](y) + y
        y = first + net.chain(y, f"{trunk_name}.0 {trunk_name}.1")
        for n in range(steps):
            y = net[f"upsampling.{n}.upsample_block"](y)
        return net[last_name](y).clamp(0, 1)

    return Generator(parts, run)


def lornatang_2021(scale: int, tanh: bool = False) -> Generator:
    parts = {"conv1.0": conv(3, WIDTH, 9), "conv1.1": nn.PReLU()}
    for n in range(BLOCKS):
        parts |= {f"trunk.{n}.conv{m}": conv(WIDTH, WIDTH, 3, bias=False) for m in (1, 2)}
        parts |= {f"trunk.{n}.bn{m}": nn.BatchNorm2d(WIDTH) for m in (1, 2)}
        parts[f"trunk.{n}.prelu"] = nn.PReLU()
    parts |= {"conv2.0": conv(WIDTH, WIDTH, 3, bias=False), "conv2.1": nn.BatchNorm2d(WIDTH)}
    steps = {2: 1, 4: 2, 8: 3}[scale]
    for n in range(steps):
        parts[f"subpixel_conv.{n}.conv"] = conv(WIDTH, 4 * WIDTH, 3)
        parts[f"subpixel_conv.{n}.prelu"] = nn.PReLU()
    last = "conv3.0" if tanh else "conv3"
    parts[last] = conv(WIDTH, 3, 9)

    def run(net: Generator, x: Tensor) -> Tensor:
        first = y = net.chain(x, "conv1.0 conv1.1")
        for name in (f"trunk.{n}" for n in range(BLOCKS)):
            z = net.chain(y, f"{name}.conv1 {name}.bn1 {name}.prelu {name}.conv2 {name}.bn2")
            y = z + y
        y = first + net.chain(y, "conv2.0 conv2.1")
        for name in (f"subpixel_conv.{n}" for n in range(steps)):
            y = net[f"{name}.prelu"](torch.pixel_shuffle(net[f"{name}.conv"](y), 2))
        return torch.tanh(net[last](y)) if tanh else net[last](y)

    return Generator(parts, run)


def lornatang_2020(scale: int, tanh: bool = False) -> Generator:
    parts = {"conv1.0": conv(3, WIDTH, 9, bias=False), "conv1.1": nn.PReLU()}
    for n in range(BLOCKS):
        name = f"residual_blocks.{n}"
        parts |= {f"{name}.conv{m}": conv(WIDTH, WIDTH, 3, bias=False) for m in (1, 2)}
        parts |= {f"{name}.bn{m}": nn.BatchNorm2d(WIDTH) for m in (1, 2)}
        parts[f"{name}.prelu"] = nn.PReLU()
    parts |= {"conv2.0": conv(WIDTH, WIDTH, 3, bias=False), "conv2.1": nn.BatchNorm2d(WIDTH)}
    up = []
    for _ in range({2: 1, 4: 2}[scale]):
        wide = conv(WIDTH, 4 * WIDTH, 3, bias=False)
        up += [wide, nn.BatchNorm2d(4 * WIDTH), nn.PixelShuffle(2), nn.PReLU()]
    last = "conv3.0" if tanh else "conv3"
    parts |= {"upsampling": nn.Sequential(*up), last: conv(WIDTH, 3, 9, bias=False)}

    def run(net: Generator, x: Tensor) -> Tensor:
        first = y = net.chain(x, "conv1.0 conv1.1")
        for name in (f"residual_blocks.{n}" for n in range(BLOCKS)):
            z = net.chain(y, f"{name}.conv1 {name}.bn1 {name}.prelu {name}.conv2 {name}.bn2")
            y = z + y
        y = net.chain(first + net.chain(y, "conv2.0 conv2.1"), f"upsampling {last}")
        return torch.tanh(y) if tanh else y

    return Generator(parts, run)


def sgrvinod(scale: int) -> Generator:
    parts = {"conv_block1.conv_block": nn.Sequential(conv(3, WIDTH, 9), nn.PReLU())}
    for n in range(BLOCKS):
        one = conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.PReLU()
        two = conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH)
        parts[f"residual_blocks.{n}.conv_block1.conv_block"] = nn.Sequential(*one)
        parts[f"residual_blocks.{n}.conv_block2.conv_block"] = nn.Sequential(*two)
    parts["conv_block2.conv_block"] = nn.Sequential(conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH))
    steps = {2: 1, 4: 2, 8: 3}[scale]
    for n in range(steps):
        parts[f"subpixel_convolutional_blocks.{n}.conv"] = conv(WIDTH, 4 * WIDTH, 3)
        parts[f"subpixel_convolutional_blocks.{n}.prelu"] = nn.PReLU()
    parts["conv_block3.conv_block"] = nn.Sequential(conv(WIDTH, 3, 9), nn.Tanh())

    def run(net: Generator, x: Tensor) -> Tensor:
        first = y = net["conv_block1.conv_block"](x)
        for name in (f"residual_blocks.{n}" for n in range(BLOCKS)):
            y = y + net.chain(y, f"{name}.conv_block1.conv_block {name}.conv_block2.conv_block")
        y = net["conv_block2.conv_block"](y) + first
        for name in (f"subpixel_convolutional_blocks.{n}" for n in range(steps)):
            y = net[f"{name}.prelu"](torch.pixel_shuffle(net[f"{name}.conv"](y), 2))
        return net["conv_block3.conv_block"](y)

    return Generator(parts, run)


def hasnain(
    scale: int,
    norm: type[nn.Module] = nn.InstanceNorm2d,
    act: str = "relu1",
    depthwise: bool = False,
) -> Generator:
    parts = {"neck": nn.Sequential(conv(3, WIDTH, 3), nn.PReLU())}
    for n in range(BLOCKS):
        parts |= {f"stem.{n}.conv{m}": conv(WIDTH, WIDTH, 3, bias=False) for m in (1, 2)}
        if depthwise:
            parts[f"stem.{n}.conv1"] = nn.Conv2d(WIDTH, WIDTH, 3, 1, 1, groups=WIDTH, bias=False)
            parts[f"stem.{n}.conv2"] = nn.Conv2d(WIDTH, WIDTH, 1, bias=False)
        parts |= {f"stem.{n}.bn{m}": norm(WIDTH) for m in (1, 2)}
        parts[f"stem.{n}.{act}"] = nn.PReLU()
    parts["bottleneck"] = nn.Sequential(conv(WIDTH, WIDTH, 3, bias=False), norm(WIDTH))
    for n in range(2):
        parts[f"upsampling.{n}.conv"] = conv(WIDTH, 4 * WIDTH, 3)
        parts[f"upsampling.{n}.relu"] = nn.PReLU()
    parts["head"] = nn.Sequential(conv(WIDTH, 3, 3), nn.Tanh())

    def run(net: Generator, x: Tensor) -> Tensor:
        first = y = net["neck"](x)
        for name in (f"stem.{n}" for n in range(BLOCKS)):
            z = net.chain(y, f"{name}.conv1 {name}.bn1 {name}.{act}")
            y = net.chain(z, f"{name}.conv2 {name}.bn2") + y
        y = net["bottleneck"](y) + first
        for name in ("upsampling.0", "upsampling.1"):
            y = net[f"{name}.relu"](torch.pixel_shuffle(net[f"{name}.conv"](y), 2))
        return net["head"](y)

    return Generator(parts, run)


def aitorzip(scale: int) -> Generator:
    parts = {"conv1": conv(3, WIDTH, 9)}
    for n in range(1, BLOCKS + 1):
        parts |= {f"residual_block{n}.conv{m}": conv(WIDTH, WIDTH, 3) for m in (1, 2)}
        parts |= {f"residual_block{n}.bn{m}": nn.BatchNorm2d(WIDTH) for m in (1, 2)}
    parts |= {"conv2": conv(WIDTH, WIDTH, 3), "bn2": nn.BatchNorm2d(WIDTH)}
    steps = {2: 1, 4: 2}[scale]
    for n in range(1, steps + 1):
        parts[f"upsample{n}.conv"] = conv(WIDTH, 4 * WIDTH, 3)
    parts["conv3"] = conv(WIDTH, 3, 9)

    def run(net: Generator, x: Tensor) -> Tensor:
        def swish(z: Tensor) -> Tensor:
            return z * torch.sigmoid(z)

        first = y = swish(net["conv1"](x))
        for name in (f"residual_block{n}" for n in range(1, BLOCKS + 1)):
            z = swish(net.chain(y, f"{name}.conv1 {name}.bn1"))
            y = net.chain(z, f"{name}.conv2 {name}.bn2") + y
        y = net.chain(y, "conv2 bn2") + first
        for n in range(1, steps + 1):
            y = swish(torch.pixel_shuffle(net[f"upsample{n}.conv"](y), 2))
        return net["conv3"](y)

    return Generator(parts, run)


def goldhuang(scale: int) -> Generator:
    parts = {"conv1": nn.Sequential(conv(3, WIDTH, 9), nn.PReLU())}
    for n in range(1, BLOCKS + 1):
        inside = (
            *(conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.PReLU()),
            *(conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH)),
        )
        parts[f"residual{n}.net"] = nn.Sequential(*inside)
    parts["conv2"] = nn.Sequential(conv(WIDTH, WIDTH, 3), nn.PReLU())
    for n in range(2):
        inside = conv(WIDTH, 4 * WIDTH, 3), nn.PixelShuffle(2), nn.PReLU()
        parts[f"upsample.{n}.net"] = nn.Sequential(*inside)
    parts["upsample.2"] = conv(WIDTH, 3, 9)

    def run(net: Generator, x: Tensor) -> Tensor:
        first = y = net["conv1"](x)
        for n in range(1, BLOCKS + 1):
            y = y + net[f"residual{n}.net"](y)
        y = net["conv2"](y) + first
        return (torch.tanh(net.chain(y, "upsample.0.net upsample.1.net upsample.2")) + 1) / 2

    return Generator(parts, run)


def dongheehand(scale: int) -> Generator:
    act = nn.PReLU()  # one module in every place
    parts = {"conv01.body": nn.Sequential(conv(3, WIDTH, 9), act)}
    for n in range(BLOCKS):
        one = conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH), act
        two = conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH)
        parts[f"body.{n}.body.0.body"] = nn.Sequential(*one)
        parts[f"body.{n}.body.1.body"] = nn.Sequential(*two)
    parts["conv02.body"] = nn.Sequential(conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH))
    steps, factor = (2, 2) if scale == 4 else (1, scale)
    for n in range(steps):
        parts[f"tail.{n}.body.0.body"] = nn.Sequential(conv(WIDTH, WIDTH * factor**2, 3))
        parts |= {f"tail.{n}.body.1": nn.PixelShuffle(factor), f"tail.{n}.body.2": act}
    parts["last_conv.body"] = nn.Sequential(conv(WIDTH, 3, 3), nn.Tanh())

    def run(net: Generator, x: Tensor) -> Tensor:
        first = y = net["conv01.body"](x)
        for name in (f"body.{n}.body" for n in range(BLOCKS)):
            y = net.chain(y, f"{name}.0.body {name}.1.body") + y
        y = net["conv02.body"](y) + first
        for name in (f"tail.{n}.body" for n in range(steps)):
            y = net.chain(y, f"{name}.0.body {name}.1 {name}.2")
        return net["last_conv.body"](y)

    return Generator(parts, run)


def twtygqyy(scale: int, norm: str = "in") -> Generator:
    def make() -> nn.Module:
        return nn.InstanceNorm2d(WIDTH, affine=True) if norm == "in" else nn.BatchNorm2d(WIDTH)

    parts = {"conv_input": conv(3, WIDTH, 9, bias=False)}
    for n in range(BLOCKS):
        parts |= {f"residual.{n}.conv{m}": conv(WIDTH, WIDTH, 3, bias=False) for m in (1, 2)}
        parts |= {f"residual.{n}.{norm}{m}": make() for m in (1, 2)}
    parts |= {"conv_mid": conv(WIDTH, WIDTH, 3, bias=False), "bn_mid": make()}
    up = []
    for _ in range(2):
        up += [conv(WIDTH, 4 * WIDTH, 3, bias=False), nn.PixelShuffle(2), nn.LeakyReLU(0.2)]
    parts |= {"upscale4x": nn.Sequential(*up), "conv_output": conv(WIDTH, 3, 9, bias=False)}

    def run(net: Generator, x: Tensor) -> Tensor:
        def leaky(z: Tensor) -> Tensor:
            return torch.where(z > 0, z, 0.2 * z)

        first = y = leaky(net["conv_input"](x))
        for name in (f"residual.{n}" for n in range(BLOCKS)):
            z = leaky(net.chain(y, f"{name}.conv1 {name}.{norm}1"))
            y = net.chain(z, f"{name}.conv2 {name}.{norm}2") + y
        y = net.chain(y, "conv_mid bn_mid") + first
        return net.chain(y, "upscale4x conv_output")

    return Generator(parts, run)


def bubbliiiing(scale: int) -> Generator:
    parts = {"block_in": nn.Sequential(conv(3, WIDTH, 9), nn.PReLU(WIDTH))}
    for n in range(BLOCKS):
        parts |= {f"blocks.{n}.conv{m}": conv(WIDTH, WIDTH, 3) for m in (1, 2)}
        parts |= {f"blocks.{n}.bn{m}": nn.BatchNorm2d(WIDTH) for m in (1, 2)}
        parts[f"blocks.{n}.prelu"] = nn.PReLU(WIDTH)
    parts["block_out"] = nn.Sequential(conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH))
    steps = {2: 1, 4: 2, 8: 3}[scale]
    for n in range(steps):
        parts[f"upsample.{n}.conv"] = conv(WIDTH, 4 * WIDTH, 3)
        parts[f"upsample.{n}.prelu"] = nn.PReLU(WIDTH)
    parts[f"upsample.{steps}"] = conv(WIDTH, 3, 9)

    def run(net: Generator, x: Tensor) -> Tensor:
        first = y = net["block_in"](x)
        for name in (f"blocks.{n}" for n in range(BLOCKS)):
            z = net.chain(y, f"{name}.conv1 {name}.bn1 {name}.prelu")
            y = net.chain(z, f"{name}.conv2 {name}.bn2") + y
        y = net["block_out"](y) + first
        for name in (f"upsample.{n}" for n in range(steps)):
            y = net[f"{name}.prelu"](torch.pixel_shuffle(net[f"{name}.conv"](y), 2))
        return torch.tanh(net[f"upsample.{steps}"](y))

    return Generator(parts, run)


def kiyotone(scale: int) -> Generator:
    parts = {"initial": nn.Sequential(conv(3, WIDTH, 9), nn.PReLU())}
    for n in range(BLOCKS):
        inside = (
            *(conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.PReLU()),
            *(conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH)),
        )
        parts[f"residual_blocks.{n}.block"] = nn.Sequential(*inside)
    parts["conv2"] = nn.Sequential(conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH))
    up = []
    for _ in range({2: 1, 4: 2}[scale]):
        up += [conv(WIDTH, 4 * WIDTH, 3), nn.PixelShuffle(2), nn.PReLU()]
    parts |= {"upsample": nn.Sequential(*up), "final": conv(WIDTH, 3, 9)}

    def run(net: Generator, x: Tensor) -> Tensor:
        first = y = net["initial"](x)
        for n in range(BLOCKS):
            y = y + net[f"residual_blocks.{n}.block"](y)
        return net.chain(net["conv2"](y) + first, "upsample final")

    return Generator(parts, run)


def same(x: Tensor) -> Tensor:
    return x


def signed(x: Tensor) -> Tensor:
    return x / 0.5 - 1


def unsigned(y: Tensor) -> Tensor:
    return y * 0.5 + 0.5


def imagenet(x: Tensor) -> Tensor:
    return (x - MEAN) / STD


def from_imagenet(y: Tensor) -> Tensor:
    return y * STD + MEAN


@dataclass(frozen=True)
class Case:
    """A repository's network at a scale, and how its own scripts feed and read it.

    Attributes:
        told: What its scripts had now so, now otherwise, and has to be told.
    """

    make: Callable[[int], Generator]
    scales: tuple[int, ...]
    before: Callable[[Tensor], Tensor]
    after: Callable[[Tensor], Tensor]
    told: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, network: nn.Module, image: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.after(network(self.before(image))).clamp(0, 1)


CASES = {
    "eriklindernoren": Case(erik, (2, 4), imagenet, from_imagenet),
    "eriklindernoren (2018)": Case(lambda s: erik(s, False), (4,), signed, unsigned),
    "aladdinpersson": Case(aladdin, (2, 4), same, unsigned),
    "leftthomas": Case(leftthomas, (2, 4, 8), same, same),
    "leftthomas (2017)": Case(lambda s: leftthomas(s, end="act"), (2, 4), same, same),
    "weichen283": Case(lambda s: leftthomas(s, act="swish"), (2, 4), same, same),
    "Lornatang": Case(lornatang, (2, 4, 8), same, same),
    "Lornatang (early 2022)": Case(
        lambda s: lornatang(s, ("conv_block1", "conv_block2", "conv_block3")), (4,), same, same
    ),
    "Lornatang (v0.2, 2021)": Case(lornatang_2021, (2, 4), same, same),
    "Lornatang (v0.3, 2021)": Case(
        lambda s: lornatang_2021(s, True),
        (4,),
        imagenet,
        from_imagenet,
        {"input_range": "imagenet", "output_range": "imagenet"},
    ),
    "Lornatang (2020)": Case(
        lornatang_2020, (2,), same, same, {"input_range": (0, 1), "output_range": (0, 1)}
    ),
    "Lornatang (2020, with tanh)": Case(
        lambda s: lornatang_2020(s, True),
        (4,),
        signed,
        unsigned,
        {"input_range": (-1, 1), "output_range": (-1, 1)},
    ),
    "sgrvinod": Case(sgrvinod, (2, 4), imagenet, unsigned),
    "HasnainRaz": Case(hasnain, (4,), signed, unsigned),
    "HasnainRaz with BN": Case(
        lambda s: hasnain(s, nn.BatchNorm2d, "act1"), (4,), signed, unsigned
    ),
    "HasnainRaz (depthwise)": Case(
        lambda s: hasnain(s, nn.BatchNorm2d, depthwise=True), (4,), signed, unsigned
    ),
    "aitorzip": Case(aitorzip, (2, 4), imagenet, from_imagenet),
    "goldhuang": Case(goldhuang, (4,), same, same),
    "dongheehand": Case(dongheehand, (2, 3, 4, 8), signed, unsigned),
    "twtygqyy": Case(twtygqyy, (4,), same, same),
    "twtygqyy with BN": Case(lambda s: twtygqyy(s, "bn"), (4,), same, same),
    "bubbliiiing": Case(bubbliiiing, (2, 4), signed, unsigned),
    "kiyotone": Case(kiyotone, (2, 4), same, same),
}


def trained_looking(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give weights and statistics that show in the result: none at 0 or 1, signs of both kinds."""
    random = torch.Generator().manual_seed(seed)

    def uniform(tensor: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(tensor.shape, generator=random) * (high - low) + low

    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if not tensor.is_floating_point():
                tensor.fill_(7)
            elif tensor.ndim == 4:
                bound = (3 / tensor[0].numel()) ** 0.5
                tensor.copy_(uniform(tensor, -bound, bound))
            elif key.endswith("running_var"):
                tensor.copy_(uniform(tensor, 0.3, 2.0))
            else:
                tensor.copy_(uniform(tensor, 0.1, 0.6))
    return network.eval()
