"""The documentation: every internal link leads somewhere, every command has flags that exist."""

import argparse
import ast
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from srgan_plugin.cli.configs import read_config
from tests.conftest import ROOT

FOLDERS = ("", "docs", "docs/api", "docs/zoo", "configs", "srgan_plugin/checkpoints/weights")
PAGES = [page for folder in FOLDERS for page in sorted((ROOT / folder).glob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
_FENCE = re.compile(r"^( *)(```+|:::+)(.*?)\n(.*?)^\1\2 *$", re.M | re.S)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_INCLUDE = re.compile(r"```\{include\} (\S+)")
# Commands of others, of which nothing is checked here.
FOREIGN = {"hf", "mim", "realesrgan-ncnn-vulkan", "source", "git"}
#: Targets that sentences name without the arguments that they need.
NAMED_TARGETS = {"make train-zoo"}

# Arguments that documents set and no config does.
LEFT_AT_DEFAULT = {"test_evaluator.rounding"}


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    text = page.read_text()
    found: list[str] = []
    for heading in re.findall(r"^#{1,4} (.+?) *$", _FENCE.sub("", text), re.M):
        words = re.sub(r"\[(.+?)\]\(.+?\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        same = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in found)
        found.append(f"{slug}-{same}" if same else slug)
    included = (page.parent / name for name in _INCLUDE.findall(text))
    return frozenset(found).union(*map(anchors, included))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_internal_link_and_anchor_exists(page: Path) -> None:
    text = re.sub(r"`[^`\n]+`", "", _FENCE.sub("", page.read_text()))
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{target}: {file.name} has {sorted(anchors(file))}"


@pytest.mark.parametrize("folder", ["srgan_plugin", "tools", "configs", ".github"])
def test_a_page_that_a_message_names_exists(folder: str) -> None:
    files = [
        path
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".sh", ".yml") and ".mim" not in path.parts
    ]
    for path in files:
        for name, _, anchor in re.findall(r"\b(docs/[a-z/-]+\.md)(#([\w-]+))?", path.read_text()):
            assert (ROOT / name).is_file(), f"{path}: {name}"
            assert not anchor or anchor in anchors(ROOT / name), f"{path}: {name}#{anchor}"


def test_the_landing_page_leads_to_every_page() -> None:
    text = (ROOT / "docs/index.md").read_text()
    listed = set(
        re.findall(r"^[\w/-]+$", "\n".join(re.findall(r"toctree\}(.*?)```", text, re.S)), re.M)
    )
    pages = {
        path.removeprefix("docs/")[:-3]
        for path in NAMES
        if re.match(r"docs/(api/)?[\w-]+\.md", path)
    }
    assert listed == pages - {"index"}


@pytest.mark.slow
def test_the_reference_has_every_class_that_a_config_can_name() -> None:
    import mmengine.registry

    import srgan_plugin.hosts.mmengine  # noqa: F401 - fills the registries
    from srgan_plugin import registry

    text = "".join(path.read_text() for path in (ROOT / "docs/api").glob("*.md"))
    for parts in vars(registry).values():
        if isinstance(parts, mmengine.registry.Registry):
            for part in parts.module_dict.values():
                if part.__module__.startswith("srgan_plugin.hosts."):
                    assert f"{part.__module__}.{part.__name__}\n" in text


def commands() -> Iterator[tuple[str, str]]:
    """Yield page and command: of shell blocks, sentences, tools' and configs' first lines."""
    for name, page in zip(NAMES, PAGES, strict=True):
        if name == "CHANGELOG.md":  # of the past
            continue
        text = page.read_text()
        for _, _, language, block in _FENCE.findall(text):
            if language == "bash" and not block.lstrip().startswith("#!"):
                joined = re.sub(r"\\\n\s*", "", block)
                yield from ((name, line.strip()) for line in joined.splitlines() if line.strip())
        for code in re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)):
            if re.match(
                r"(\S*python (tools/|-m srgan)|srgan-plugin |make |\S*pytest )[^…]+$", code
            ):
                yield name, code
    for script in sorted((ROOT / "tools").rglob("*.py")):
        text = ast.get_docstring(ast.parse(script.read_text())) or ""
        lines = re.findall(r"^(python tools/[^…\n]+)$|`(python tools/[^`…\n]+)`", text, re.M)
        yield from ((script.relative_to(ROOT).as_posix(), a or b) for a, b in lines)
    for config in sorted((ROOT / "configs").rglob("*.*")):
        if config.suffix in (".py", ".yml"):
            name = config.relative_to(ROOT).as_posix()
            text = re.sub(r"\\\n#\s*", "", config.read_text())
            yield from (
                (name, line) for line in re.findall(r"^#   ((?:python|make) .+)", text, re.M)
            )


def words_of(line: str) -> list[str]:
    """Return the words of a command: optional ones given, the first of several, no comment."""
    line = re.sub(r"\{(\w+)(,\w+)+\}", r"\1", line.replace("…", ""))
    line = re.sub(r"(\b[\w.-]+)(\\?\|[\w.-]+)+", r"\1", line)
    line = re.sub(r"(^|\s)\[([^\]]+)\]", r"\1\2", line)
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    return words


class Parsed(BaseException):
    """The flags exist."""


def parse(script: str, arguments: list[str]) -> None:
    """Run a script up to the point where its flags are parsed."""
    original = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", [script, *arguments])
        patch.setattr(sys, "path", [str(ROOT), *sys.path])
        runpy.run_path(str(ROOT / script), run_name="__main__")


def check(words: list[str]) -> None:
    """Check one command: that what it runs exists, and its flags."""
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    if "&&" in rest:
        cut = rest.index("&&")
        check([*words[:1], *rest[:cut]])
        check(rest[cut + 1 :])
    elif program == "pytest":  # installed by `make test`, in .venv alone
        assert words[0] == ".venv/bin/pytest"
    elif program == "srgan-plugin" or rest[:2] == ["-m", "srgan_plugin"]:
        arguments = rest[2:] if rest[0] == "-m" else rest
        if arguments not in (["upscale"], ["compare"], ["report"], ["mos"]):  # named in a sentence
            parse("srgan_plugin/__main__.py", arguments)
    elif program == "make":
        if " ".join(words) not in NAMED_TARGETS:
            check_make(rest)
    elif program.endswith("pip") or rest[:2] == ["-m", "pip"]:
        check_pip(rest)
    elif program.startswith("tools/"):
        assert (ROOT / program).is_file()
    elif program.startswith("python") and rest[0].startswith("tools/"):
        parse(rest[0], rest[1:])
        check_config(rest)
    elif program == "torchrun":
        start = next(i for i, word in enumerate(rest) if word.startswith(("tools/", "-m")))
        check(["python", *rest[start:]])
    else:
        assert program in FOREIGN or rest[:1] in (["-c"], ["-m"]) or rest[:1] == ["train.py"]


def check_make(rest: list[str]) -> None:
    """Check the target, and ARGS as the flags of the tool that it runs."""
    makefile = (ROOT / "Makefile").read_text()
    values = dict(word.split("=", 1) for word in rest if "=" in word)
    for target in (word for word in rest if "=" not in word):
        recipe = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", makefile, re.M)
        assert recipe, target
        tool = re.search(r"python (tools/\w+\.py)", recipe[1])
        if tool:
            check(["python", tool[1], *shlex.split(values.get("ARGS", ""))])


def check_pip(rest: list[str]) -> None:
    """Check that extras and files of requirements exist."""
    for word in rest:
        if found := re.match(r"(?:\.|srgan_plugin)\[(\w+)\]", word):
            assert f'"{found[1]}"' in (ROOT / "setup.py").read_text()
            assert (ROOT / f"requirements/{found[1]}.txt").is_file()
        if word.startswith("requirements/"):
            assert (ROOT / word).is_file()


def check_config(rest: list[str]) -> None:
    """Check that a config exists and has the options that are set."""
    config = next((word for word in rest if word.startswith("configs/")), None)
    if config is None:
        return
    assert (ROOT / config).is_file(), config
    if config.endswith(".py") and "--cfg-options" in rest:
        options = [word for word in rest[rest.index("--cfg-options") + 1 :] if word != "KEY=VALUE"]
        read_config(ROOT / config, options)
        cfg = read_config(ROOT / config)
        keys = {option.partition("=")[0] for option in options}
        for key in keys - LEFT_AT_DEFAULT:
            node = cfg
            for part in key.split("."):
                assert part in node, f"{key}: the config has {', '.join(node)}"
                node = node[part]


COMMANDS = list(dict.fromkeys(commands()))


def test_the_documents_have_commands() -> None:
    assert len(COMMANDS) > 100
    assert {"README.md", "docs/training.md", "docs/cluster.md"} <= {name for name, _ in COMMANDS}


@pytest.mark.usefixtures("fresh_mmengine")
@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_has_flags_and_files_that_exist(
    page: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SRGAN_DEBUG", raising=False)
    if words := words_of(line):
        check(words)


def test_the_training_loop_without_a_toolbox_trains_both_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from srgan_plugin.networks import random_vgg19_state_dict

    monkeypatch.chdir(tmp_path)
    torch.save(random_vgg19_state_dict(depth="conv2_2"), "vgg.pth")
    text = (ROOT / "docs/downstream.md").read_text()
    (block,) = re.findall(r"```python\n(import torch\n.*?)```", text, re.DOTALL)
    for old, new in (
        ("MSRResNet()", "MSRResNet(mid_channels=4, num_blocks=1)"),
        ("ModifiedVGG(input_size=128)", "ModifiedVGG(mid_channels=4, input_size=128)"),
        ('"conv5_4": 1.0}', '"conv2_2": 1.0}, pretrained="vgg.pth"'),
    ):
        assert old in block
        block = block.replace(old, new)
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(block, names)
    networks = names["generator"], names["discriminator"]
    before = [[p.clone() for p in network.parameters()] for network in networks]
    found = names["train_step"](torch.rand(2, 3, 32, 32), torch.rand(2, 3, 128, 128))
    assert list(found) == ["loss_pix", "loss_perceptual", "loss_gan", "loss_d_real", "loss_d_fake"]
    for network, start in zip(networks, before, strict=True):
        assert all(not torch.equal(p, q) for p, q in zip(network.parameters(), start, strict=True))


def test_a_question_is_found_within_a_minute_from_the_front_page() -> None:
    """At 750 words a minute: the front page up to the link, the list of topics, one topic."""
    readme = (ROOT / "README.md").read_text()
    page = (ROOT / "docs/questions.md").read_text()
    head, *topics = re.split(r"^## ", page, flags=re.M)
    on_the_way = len((readme.partition("docs/questions.md")[0] + head).split())
    for topic in topics:
        assert on_the_way + len(topic.split()) < 500, topic.splitlines()[0]


def test_durations_of_trainings_are_those_of_the_benchmarks() -> None:
    text = {name: (ROOT / f"docs/{name}.md").read_text() for name in ("training", "benchmarks")}
    measured = {
        model: float(milliseconds) / 1000
        for model, milliseconds in re.findall(
            r"^\| (\w+), srgan_plugin \| ([\d.]+) \|", text["benchmarks"], re.M
        )
    }
    section = text["training"].partition("## How long it takes")[2]
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) s \| ([\d,]+) \| ([\d.]+) days \|", section, re.M)
    assert len(rows) == 4
    config = iterations = None
    for what, seconds, steps, days in rows:
        count = int(steps.replace(",", ""))
        if what.startswith("`"):
            config = what.strip("`")
            iterations = read_config(ROOT / "configs" / config).train_cfg.max_iters
            assert count == iterations
        assert config is not None
        a_step = measured["SRGAN" if config.startswith("srgan") else "MSRResNet"]
        assert float(seconds) == pytest.approx(a_step, abs=5e-4)
        assert float(days) == pytest.approx(a_step * count / 86400, abs=0.06)
    stated = {days for *_, days in rows}
    for name in ("docs/training", "docs/questions", "docs/first-hour", "configs/README"):
        page = (ROOT / f"{name}.md").read_text()
        named = set(re.findall(r"(\d+\.\d)(?= days| and [\d.]+ days)", page))
        assert named, name
        assert named <= stated, name


def test_the_formats_that_are_listed_are_those_that_are_read() -> None:
    from srgan_plugin.io.image_content import READABLE_SUFFIXES
    from srgan_plugin.io.image_files import SUFFIXES

    table = (ROOT / "docs/data.md").read_text().partition("| images | in training |")[2]
    (row,) = (line for line in table.splitlines() if line.startswith("| PNG, "))
    (skipped,) = (line for line in table.splitlines() if "skipped by their names" in line)
    same = {".jpg": "jpeg", ".tif": "tiff", ".heif": "heic"}

    def names(suffixes: tuple[str, ...]) -> set[str]:
        return {same.get(suffix, suffix[1:]) for suffix in suffixes}

    def listed(line: str) -> set[str]:
        return set(line.split("|")[1].strip().lower().split(", "))

    assert listed(row) == names(SUFFIXES)
    assert listed(row) | listed(skipped) == names(READABLE_SUFFIXES)


def test_values_in_tables_are_those_of_the_code() -> None:
    from srgan_plugin.io.writers import _WRITERS
    from srgan_plugin.losses.adversarial import _GAN_LOSSES

    read = {name: (ROOT / f"docs/{name}.md").read_text() for name in ("training", "from-basicsr")}
    for text in read.values():
        assert [kind for kind in _GAN_LOSSES if f"`{kind}`" not in text] == []
    sizes = (ROOT / "docs/upscale.md").read_text()
    assert [largest for _, largest in _WRITERS.values() if f"{largest:,} pixels" not in sizes] == []
    versions = (ROOT / "docs/platforms.md").read_text()
    pins = [
        line.split(";")[0].strip()
        for name in ("runtime", "mmagic")
        for line in (ROOT / f"requirements/{name}.txt").read_text().splitlines()
        if re.match(r"(torch|numpy|opencv|mm|diffusers|transformers|hugging|album|setup)", line)
    ]
    assert len(pins) > 10
    for pin in pins:
        name, *numbers = re.split(r"[<>=,]+", pin)
        name = name.replace("opencv-python", "OpenCV")
        rows = re.findall(rf"^\| {name} \| (.+?) \|", versions, re.M)
        assert any(all(number in row for number in numbers) for row in rows), pin
