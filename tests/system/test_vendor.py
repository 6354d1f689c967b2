"""The libraries of the pages are those that npm has, at the versions that package-lock.json pins."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.server import ROOT

PACKAGES = Path(__file__).parents[1] / "node" / "node_modules"
# dist/rapidoc-min.js of rapidoc 9.3.8.
RAPIDOC = "d2003ca7d89072f2507def13098b22d57e5a4adef87b6cf3071fbcc6a4debd60"
VENDOR = ROOT / "api" / "pages" / "vendor"


@pytest.mark.parametrize(
    ("package", "ours"),
    [
        ("phoenix/priv/static/phoenix.mjs", "phoenix.mjs"),
        ("uplot/dist/uPlot.esm.js", "uplot.mjs"),
        ("uplot/dist/uPlot.min.css", "uplot.css"),
    ],
)
def test_vendored_files_are_npms_own(package: str, ours: str) -> None:
    def lines(file: Path) -> list[str]:
        text = file.read_text().splitlines()
        return [line for line in text if line and not line.startswith("//# sourceMappingURL")]

    assert lines(VENDOR / ours) == lines(PACKAGES / package)


def test_rapidoc_is_npms_own() -> None:
    """By its digest: the package would bring 127 others, which build parts of theirs when they are installed."""
    text = [line for line in (VENDOR / "rapidoc.js").read_text().splitlines() if line]
    assert sha256("\n".join(text).encode()).hexdigest() == RAPIDOC


def test_nothing_is_loaded_from_elsewhere() -> None:
    for page in (ROOT / "api").rglob("*"):
        if page.suffix in (".html", ".css") or (page.suffix == ".js" and "vendor" not in page.parts):
            text = page.read_text()
            assert "https://" not in text and "//cdn" not in text, page
