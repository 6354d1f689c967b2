"""`python -m tests.node npm ci`: npm in this folder, on the interpreter that pip installed."""

import os
import sys

from tests.node import BIN, HERE, NODE, environment

NPM = BIN.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

assert sys.argv[1] == "npm"
os.chdir(HERE)
os.execve(NODE, [NODE, str(NPM), *sys.argv[2:]], environment())
