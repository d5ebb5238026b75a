"""How the documentation is built: `sphinx-build -W -n --keep-going docs build/docs`."""

from weighbridge import __version__

project = "Weighbridge"
copyright = "the Weighbridge authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "generate.py"]

default_role = "code"
"""Docstrings write code between single backticks."""

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "signature"
napoleon_numpy_docstring = False

nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!weighbridge\.).*")]
"""Only names of this project must resolve: the standard library's pages are not here."""

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

html_theme = "furo"
html_title = f"Weighbridge {release}"
