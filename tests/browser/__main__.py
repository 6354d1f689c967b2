"""`python -m tests.browser`: says before the tests whether the browser tests can run."""

from tests.browser import HOW_TO, chromium

if chromium() is None:
    print(f"\n  No Chromium here: the browser tests will be SKIPPED. To have them: {HOW_TO}\n")
