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
        except (ValueError, OSError) as error:
            if os.environ.get("SRGAN_DEBUG"):
                raise
            sys.stderr.write(f"error: {one_line(error)}\n")
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            raise SystemExit(130) from None

    return wrapper


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
        ValueError: An option is not of the form KEY=VALUE.
    """
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = (
        args.work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(args.config).stem)
    )
    return cfg


def read_config(path: str | Path, cfg_options: Sequence[str] = ()) -> Any:
    """Return an mmengine config with what `--cfg-options` changes in it.

    Raises:
        FileNotFoundError: There is no such config.
        ValueError: An option is not of the form KEY=VALUE.
    """
    path = Path(path)
    if not path.is_file():
        near = ", ".join(sorted(other.name for other in path.parent.glob("*.py"))) or "none"
        raise FileNotFoundError(f"there is no config at {path}; configs in that folder: {near}")
    if wrong := [option for option in cfg_options if "=" not in option]:
        raise ValueError(f"--cfg-options: expected KEY=VALUE, got {wrong[0]!r}")
    from mmengine.config import Config, DictAction

    import srgan_plugin.registry  # noqa: F401 - `_base_ = 'srgan_plugin::…'` and scopes need it

    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    options = parser.parse_args(["--cfg-options", *cfg_options] if cfg_options else [])
    cfg = Config.fromfile(path)
    if options.cfg_options:
        cfg.merge_from_dict(options.cfg_options)
    return cfg
