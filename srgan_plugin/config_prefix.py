"""`_base_ = 'srgan_plugin::NAME.py'`, which mmengine resolves for OpenMMLab's packages alone."""

import functools

from mmengine.config import Config

from srgan_plugin import config_path

PREFIX = "srgan_plugin"


def resolve_our_prefix() -> None:
    """Make mmengine find our configs by their prefix, in wheels and in editable installs.

    It reads `_base_` before it imports anything that a config names, so `srgan_plugin.registry`,
    which calls this, has to be imported before the config is read: our tools do, other launchers
    may not. `config_path` needs no such order. Types are looked up by the config's `default_scope`,
    as with `config_path`.

    mmengine has no public place for this. Should the method be gone, only the prefix stops working.
    """
    resolve = getattr(Config, "_get_cfg_path", None)
    if resolve is None or getattr(resolve, "knows_our_prefix", False):
        return

    @functools.wraps(resolve)
    def wrapper(cfg_path: str, filename: str) -> tuple[str, str | None]:
        prefix, separator, name = cfg_path.partition("::")
        if separator and prefix == PREFIX:
            return config_path(name), None
        found: tuple[str, str | None] = resolve(cfg_path, filename)
        return found

    wrapper.knows_our_prefix = True  # type: ignore[attr-defined]
    Config._get_cfg_path = staticmethod(wrapper)
