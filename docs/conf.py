"""Sphinx configuration. Nothing here needs a network."""

import inspect
import os
import sys
from importlib.metadata import version as distribution_version

# torch and scikit-learn workers of the gallery inherit it; figures need no display.
os.environ.setdefault("MPLBACKEND", "Agg")

project = "sknk"
author = "the sknk developers"
copyright = f"2026, {author}"
release = distribution_version("sknk")
version = release

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "myst_parser",  # for changelog only
]

root_doc = "index"
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
default_role = "code"

# --- API pages: one per public object; methods on the page of their class ----------------------

autosummary_generate = True
autosummary_imported_members = True
autodoc_typehints = "none"  # types stand in the docstrings
autodoc_inherit_docstrings = False  # an override without a docstring would show a foreign one
numpydoc_show_class_members = False  # the class template lists them
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False


def skip_foreign_member(app, what, name, obj, skip, options):
    """Leave out what a class inherits from other libraries: they document it, in their markup."""
    target = obj.fget if isinstance(obj, property) else inspect.unwrap(obj)
    origin = getattr(target, "__module__", None)
    foreign = isinstance(origin, str) and origin.split(".")[0] != "sknk"
    return True if foreign else None


def setup(app):
    """Register the hook above."""
    app.connect("autodoc-skip-member", skip_foreign_member)


# --- gallery -----------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["auto_examples"],
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "remove_config_comments": True,
    "show_memory": False,
    "download_all_examples": False,
    "abort_on_example_error": True,
    "plot_gallery": "True",
    "parallel": min(2, os.cpu_count() or 1),
    "backreferences_dir": None,
    "reference_url": {"sknk": None},
}

# --- pages -------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "sknk"
html_static_path = ["_static"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"install": [], "glossary": [], "design": [], "changelog": []}

# A page that fails to import its package must fail the build, not appear empty.
if "sknk" not in sys.modules:
    import sknk  # noqa: F401
