"""The site: every page is in it, everything leads somewhere, and nothing comes from another host."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from mooring import __version__

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "make-site"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("make_site", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_site_is_built_whole(tmp_path: Path) -> None:
    """One build, since it takes its time: pages, navigation, search, versions, files for machines."""
    site = tmp_path / "site"
    older = site / "0.0.9"  # a version that was built before stays, and is listed behind
    older.mkdir(parents=True)
    (older / "index.html").write_text("old")
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
    done = subprocess.run([sys.executable, str(SCRIPT), str(site)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    out = site / __version__
    index = (out / "index.html").read_text()
    for page in pages:
        path = page.relative_to(ROOT).with_suffix(".html")
        assert (out / path).is_file(), path
        assert f'href="{path.as_posix()}"' in index, f"{path} is not in the navigation"
    assert f"Mooring {__version__}" in index and "_images/hub.png" in index
    assert "post-connect-sessions" in (out / "docs" / "api.html").read_text()
    assert json.loads((out / "docs" / "openapi.json").read_text())["openapi"].startswith("3.")
    words = (out / "searchindex.js").read_text()
    assert words.startswith("Search.setIndex(") and "litestream" in words
    listed = json.loads((site / "versions.json").read_text())
    assert listed == {"latest": __version__, "versions": [__version__, "0.0.9"]}
    assert f"url=../../{__version__}/docs/api.html" in (site / "latest" / "docs" / "api.html").read_text()
    assert f"url={__version__}/index.html" in (site / "index.html").read_text()
    machines = (out / "llms.txt").read_text()
    links = re.findall(r"\]\(\./([^)]+)\)", machines)
    assert len(links) >= len(list((ROOT / "docs").rglob("*.md"))) and all((out / link).is_file() for link in links)
    assert "# Privacy" in (out / "llms-full.txt").read_text()
    assert not list(tmp_path.glob(".site-work"))


BAD = {
    '<script src="https://cdn.example/x.js"></script>': "loads from another host",
    '<link rel="stylesheet" href="//fonts.example/a.css">': "loads from another host",
    '<img alt="" src="https://img.example/a.png">': "loads from another host",
    "<style>@import 'https://fonts.example/a.css'</style>": "loads from another host",
    "<style>a{background:url(http://img.example/a.png)}</style>": "loads from another host",
    '<a href="gone.html">x</a>': "which is not there",
    '<a href="other.html#nowhere">x</a>': "which has no such anchor",
    '<a href="#nowhere">x</a>': "which has no such anchor",
}


@pytest.mark.parametrize("text", BAD)
def test_a_fault_of_a_page_is_found(script: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "other.html").write_text('<p id="here">')
    fine = '<a href="other.html#here">x</a> <a href="https://example.com/">elsewhere</a> <a href="mailto:a@b.example">m</a>'
    (tmp_path / "page.html").write_text(fine)
    assert list(script.faults(tmp_path)) == []
    (tmp_path / "page.html").write_text(fine + text)
    (fault,) = script.faults(tmp_path)
    assert BAD[text] in fault
