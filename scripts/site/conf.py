"""Sphinx for the documentation site. scripts/make-site stages the pages and says the version; no other host is asked."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(os.environ["MOORING_SITE_CONF"])

project = "Mooring"
author = "the Mooring authors"
copyright = "the Mooring authors, Apache-2.0"
version = release = os.environ["MOORING_SITE_VERSION"]
language = "en"

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["misc.highlighting_failure"]  # a snippet with `…` in it is no fault of the page
nitpicky = True

html_theme = "furo"
html_title = f"Mooring {version}"
html_static_path = [str(HERE / "static")]
templates_path = [str(HERE / "templates")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_baseurl = ""
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/versions.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
pygments_style = "friendly"
