"""How every tool ends: one line on standard error where the cause is the user's input.

Exit status 0 is success, 1 a failure, 2 a wrong command line (argparse's own), 130 an interrupt.
`SRGAN_DEBUG=1` shows the stack trace.
"""

import argparse
import ast
import contextlib
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec

P = ParamSpec("P")

# mmengine's registry puts `class `X` in module.py: ` before the message of whatever a constructor
# raised; torch's loader puts a whole stack trace of the worker before it.
_REGISTRY_PREFIX = re.compile(r"^(class|function|method)? ?`[^`]+` in [\w./]+?(\.py)?: ")


def command(main: Callable[P, None]) -> Callable[P, None]:
    """Make `main` end with a line and a status where it would end with a stack trace."""

    @functools.wraps(main)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except (ValueError, OSError, TypeError) as error:
            message = _wrong_argument(error) if isinstance(error, TypeError) else one_line(error)
            if os.environ.get("SRGAN_DEBUG") or message is None:
                raise
            sys.stderr.write(f"error: {message}\n")
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            raise SystemExit(130) from None

    return wrapper


def _wrong_argument(error: TypeError) -> str | None:
    """The line for a config's argument that does not exist; None for a mistake of ours."""
    if "mmengine" not in sys.modules:
        return None
    from srgan_plugin.config_arguments import wrong_argument

    return wrong_argument(error)


def one_line(error: BaseException) -> str:
    """The cause of `error` in one line, without what mmengine and torch wrap around it."""
    text = str(error).strip() or type(error).__name__
    if "Original Traceback" in text:
        text = text.splitlines()[-1].partition(": ")[2] or text.splitlines()[-1]
    text = " ".join(text.split())
    while (shorter := _REGISTRY_PREFIX.sub("", text)) != text:
        text = shorter
    return text


@contextlib.contextmanager
def progress_bar(what: str, unit: str = "picture") -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, nothing elsewhere; yields what is called with done and total.

    Args:
        what: Stands before the bar.
        unit: What is counted; "B" for bytes and "px" for pixels, in thousands and millions.
    """
    from tqdm import tqdm

    with tqdm(desc=what, unit=unit, unit_scale=unit in ("B", "px"), disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total or None
            bar.update(done - bar.n)

        yield show


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what every tool that reads a network out of a checkpoint takes."""
    parser.add_argument("source", metavar="SRC", help="a checkpoint of any layout, or its URL")
    parser.add_argument(
        "--ema",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="take the averaged weights where there are both (default), or the trained ones",
    )
    parser.add_argument(
        "--part",
        choices=("generator", "discriminator"),
        default="generator",
        help="which network of a whole-training checkpoint (default: generator)",
    )
    parser.add_argument(
        "--told",
        nargs="+",
        type=_told,
        default=[],
        metavar="KEY=VALUE",
        help='what the file does not tell: activate_after_shuffle=True output_range="(-1,1)"',
    )


def add_half(parser: argparse.ArgumentParser) -> None:
    """Add what every tool that writes a network takes."""
    parser.add_argument(
        "--half", action="store_true", help="round the weights to half precision: half the size"
    )


def network_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return those options as keyword arguments of the zoo's functions."""
    return {"ema": args.ema, "part": args.part, "arguments": dict(args.told)}


def _told(option: str) -> tuple[str, Any]:
    key, _, text = option.partition("=")
    try:
        return key, ast.literal_eval(text)
    except SyntaxError:
        raise ValueError(option) from None


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add `--cfg-options`, for what reads a config and runs nothing."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help='change settings of the config: a.b=1 a.list="[1,2]" a.0.c=x',
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add what every tool that runs a config takes, with MMagic's names."""
    add_cfg_options(parser)
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm"], default="none", help="job launcher"
    )
    # torchrun sets LOCAL_RANK; torch.distributed.launch passed one of these flags instead.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)


def load_config(args: argparse.Namespace) -> Any:
    """Return the mmengine config that the command line asks for.

    The work dir is `--work-dir`, else the config's, else `work_dirs/NAME_OF_CONFIG`.

    Raises:
        FileNotFoundError: There is no such config.
        ValueError: An option is not of the form KEY=VALUE or does not fit the config, or the
            config is broken or has no model.
    """
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    if not isinstance(model := cfg.get("model"), dict) or "type" not in model:
        raise ValueError(f"{args.config} has no model; expected model = dict(type='SRModel', ...)")
    cfg.launcher = args.launcher
    cfg.work_dir = (
        args.work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(args.config).stem)
    )
    return cfg


def read_config(path: str | Path, cfg_options: Sequence[str] = ()) -> Any:
    """Return an mmengine config with what `--cfg-options` changes in it.

    Raises:
        FileNotFoundError: There is no such config.
        ValueError: An option is not of the form KEY=VALUE or does not fit the config, or the
            config is broken.
    """
    path = Path(path)
    if not path.is_file():
        near = ", ".join(sorted(other.name for other in path.parent.glob("*.py"))) or "none"
        raise FileNotFoundError(f"there is no config at {path}; configs in that folder: {near}")
    if wrong := [option for option in cfg_options if "=" not in option]:
        raise ValueError(f"--cfg-options: expected KEY=VALUE, got {wrong[0]!r}")
    from mmengine.config import Config

    import srgan_plugin.registry  # noqa: F401 - `_base_ = 'srgan_plugin::…'` and scopes need it

    try:
        cfg = Config.fromfile(path)
    except OSError:
        raise
    except Exception as error:  # a config is the user's own code, which can fail in any way
        raise ValueError(_broken_config(path, error)) from error
    _merge(cfg, cfg_options)
    return cfg


def _broken_config(path: Path, error: Exception) -> str:
    """One line on why a config could not be read, with the line's number."""
    if isinstance(error, SyntaxError):  # mmengine's message has the file and the line
        return one_line(error)
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.name == "<module>" and frame.filename.endswith(".py")
    ]
    where = f"{own[-1].filename}, line {own[-1].lineno}" if own else str(path)
    return f"{where}: {type(error).__name__}: {one_line(error)}"


def _merge(cfg: Any, cfg_options: Sequence[str]) -> None:
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={})
    try:
        arguments = ["--cfg-options", *cfg_options] if cfg_options else []
        options = parser.parse_args(arguments).cfg_options
        for key in options:
            _check_fits(cfg, key)
        cfg.merge_from_dict(options)
    except (AssertionError, KeyError, TypeError) as error:  # unclosed brackets; a=1 beside a.b=1
        raise ValueError(f"--cfg-options: {one_line(error)}") from error


def _check_fits(cfg: Any, key: str) -> None:
    """Refuse a setting that lies beyond the end of a list, or inside a number."""
    node, place = cfg, "the config"
    for part in key.split("."):
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise ValueError(
                    f"--cfg-options {key}: {place} is a list of {len(node)}; "
                    f"expected an index below that, got {part!r}"
                )
            node = node[int(part)]
        elif hasattr(node, "keys"):
            if part not in node:
                return
            node = node[part]
        else:
            raise ValueError(f"--cfg-options {key}: {place} is {node!r}, which has no {part!r}")
        place = part if place == "the config" else f"{place}.{part}"


def check_trainable(cfg: Any) -> None:
    """Refuse a config that trains nothing, such as bicubic_x4.py.

    Raises:
        ValueError: It lacks something that training needs; the message says what.
    """
    needed = ("train_dataloader", "train_cfg", "optim_wrapper")
    if missing := ", ".join(name for name in needed if not cfg.get(name)):
        raise ValueError(
            f"{cfg.filename} trains nothing, it has no {missing}; measure it with tools/test.py"
        )


def check_resumable(path: str | Path) -> None:
    """Refuse a checkpoint that a run cannot go on from. Remote ones are left to mmengine.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint, or has no iteration or no optimizer's state.
    """
    if "://" in str(path):
        return
    from srgan_plugin.zoo import load_checkpoint_file

    checkpoint = load_checkpoint_file(path)
    meta = checkpoint.get("meta")
    if not isinstance(meta, dict) or "iter" not in meta or "optimizer" not in checkpoint:
        raise ValueError(
            f"--resume: {path} holds weights only; to start from them, leave --resume out and use "
            f"--cfg-options load_from={path}"
        )
