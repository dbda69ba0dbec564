"""Train by BasicSR with the classes of this package: `python tools/basicsr_train.py -opt FILE.yml`.

This runs the training of BasicSR on current torch; results are written to `experiments/NAME`.
"""

from srgan_plugin.cli.basicsr import prepare
from srgan_plugin.cli.errors import command

if __name__ == "__mp_main__":  # a spawned loader worker also needs the BasicSR patches
    import srgan_plugin.hosts.basicsr  # noqa: F401


@command
def main(argv: list[str] | None = None) -> None:
    """Check the options, then train as BasicSR does."""
    root = prepare(__doc__ or "", argv)
    from basicsr import train

    from srgan_plugin.hosts.basicsr.compat import build_dataloader, load_resume_state

    # BasicSR's function needs a GPU.
    train.load_resume_state = load_resume_state
    train.build_dataloader = build_dataloader
    train.train_pipeline(root)


if __name__ == "__main__":
    main()
