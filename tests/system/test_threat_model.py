"""docs/security.md names a test for each attack, and each of them exists."""

from __future__ import annotations

import re

from tests.support.server import ROOT

TEXT = (ROOT / "docs" / "security.md").read_text("utf-8")
ROWS = re.findall(r"^\|([^|]+)\|([^|]+)\|([^|]+)\|$", TEXT.partition("## Attacks")[2], re.MULTILINE)[2:]


def test_each_attack_has_a_test_that_exists() -> None:
    assert len(ROWS) > 40
    for attack, _happens, held in ROWS:
        if held.strip() == "the command itself":
            continue
        named = re.findall(r"`([^`]+)`", held)
        assert named, f"{attack.strip()}: no test is named"
        for test in named:
            file, _, function = test.partition("::")
            place = ROOT / file
            assert place.is_file(), f"{attack.strip()}: there is no {file}"
            source = place.read_text("utf-8")
            wanted = rf"^(?:async )?def {re.escape(function)}\(" if function else r"^(?:async )?def test_"
            assert re.search(wanted, source, re.MULTILINE), f"{attack.strip()}: {file} has no {function}"
