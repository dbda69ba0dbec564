"""Settings of Sphinx: `make docs` builds the site of this folder into `work_dirs/docs`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from srgan_plugin import __version__  # noqa: E402 - the checkout's, installed or not

project = "srgan_plugin"
author = copyright = "srgan_plugin contributors"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
# Docstrings are Markdown-like: `name` is code there.
default_role = "literal"
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
exclude_patterns = ["zoo", "benchmarks"]

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"srgan_plugin {version}"
html_copy_source = False
