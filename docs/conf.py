"""The site: pages in Markdown, and a reference made of the docstrings."""

from importlib.metadata import version as version_of

project = "checkpoint"
author = "the checkpoint developers"
copyright = "the checkpoint developers"  # noqa: A001  # the name that Sphinx asks for
version = release = version_of("pymc-checkpoint")

extensions = ["myst_parser", "numpydoc", "sphinx_click", "sphinx_copybutton", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["conftest.py"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
autosummary_generate = False  # which numpydoc switches on
autodoc_typehints = "none"  # numpydoc's sections say the types
autodoc_default_options = {"member-order": "bysource"}

html_theme = "furo"
html_title = "checkpoint"
html_show_copyright = False
html_show_sphinx = False
