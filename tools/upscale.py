#!/usr/bin/env python
"""Upscale images by a trained network (`srgan-plugin upscale`).

python tools/upscale.py photo.jpg photo_x4.png --model FILE.pth
"""

import sys

from srgan_plugin import __main__


def main(argv: list[str] | None = None) -> None:
    """Run the command `srgan-plugin upscale`."""
    __main__.main(["upscale", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    main()
