"""Train BasicSR's options with our parts: `python tools/basicsr_train.py -opt FILE.yml`.

BasicSR's own training on today's torch; results go to `experiments/NAME`.
"""

from srgan_plugin.cli.basicsr import prepare
from srgan_plugin.cli.errors import command

if __name__ == "__mp_main__":  # a loader's spawned worker, which BasicSR has to be mended in, too
    import srgan_plugin.hosts.basicsr  # noqa: F401


@command
def main(argv: list[str] | None = None) -> None:
    """Check the options, then train as BasicSR does."""
    root = prepare(__doc__ or "", argv)
    from basicsr import train

    from srgan_plugin.hosts.basicsr.compat import load_resume_state

    # BasicSR's wants a GPU to resume.
    train.load_resume_state = load_resume_state
    train.train_pipeline(root)


if __name__ == "__main__":
    main()
