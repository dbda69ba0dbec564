"""Test by BasicSR with the classes of this package: `python tools/basicsr_test.py -opt FILE.yml`.

This runs the test of BasicSR on current torch; results are written to `results/NAME`.
"""

from srgan_plugin.cli.basicsr import prepare
from srgan_plugin.cli.errors import command


@command
def main(argv: list[str] | None = None) -> None:
    """Check the options, then test as BasicSR does."""
    root = prepare(__doc__ or "", argv, test=True)
    from basicsr.test import test_pipeline

    test_pipeline(root)


if __name__ == "__main__":
    main()
