# BitNexus: `make run` serves on port 4000, `make test` runs all tests. Needs only Python 3.11 and make.
SHELL  := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN    := .venv/bin
PYTEST := $(BIN)/python -m pytest
# Tests mostly wait for real parts, so more files run at once than there are cores; WORKERS=0 runs one at a time.
WORKERS ?= 3
SPREAD := -n $(WORKERS) --dist loadfile
RUN    := .venv/.installed-run
TEST   := .venv/.installed-test
BENCH  := .venv-bench/.installed
NODE   := tests/node/node_modules/.installed
.DEFAULT_GOAL := help
.PHONY: help install run demo migrate test quick coverage pictures lint format docs bench fuzz soak lock audit vendor clean browser

help:                  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

install: $(RUN)        ## create .venv with what the server needs

run: $(RUN)            ## serve on http://localhost:4000 (PORT=... for another, NODES=2 for two server processes)
	@NODES=$${NODES:-1} exec $(BIN)/bitnexus serve

demo: $(RUN)           ## record transactions on the running server, step by step
	@exec $(BIN)/bitnexus demo

migrate: $(RUN)        ## bring the database schema up to date
	@exec $(BIN)/bitnexus migrate

test: $(TEST) $(NODE) browser ## every test on real parts (PostgreSQL, Node, Go, Chromium)
	$(PYTEST) $(SPREAD) $(ARGS)

quick: $(TEST) $(NODE) ## the tests that take less than half a minute each
	$(PYTEST) $(SPREAD) -m "not long" $(ARGS)

lint: $(TEST)          ## ruff, and pyright in strict mode
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error

format: $(TEST)        ## fix the style by ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(RUN)           ## build the documents and the reference as a site in site/
	@test -x .venv-docs/bin/mkdocs || { $(PYTHON) -m venv .venv-docs && .venv-docs/bin/pip install -q --disable-pip-version-check \
	  $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])'); }
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build -q -d site && echo "the site is in site/index.html"

bench: $(BENCH) $(RUN) ## CPU beside peers, one table (AGAINST=REV beside a commit, ONLY=requests,sockets, ROUNDS=5)
	@.venv-bench/bin/python -m bench $(foreach o,ONLY AGAINST ROUNDS SOCKETS ENTRIES LEDGERS PLOTS JSON,$(if $($(o)),--$(shell echo $(o) | tr A-Z a-z)=$($(o))))

pictures: $(TEST) $(NODE) ## take the README's pictures of the pages, by their tests
	@shots=$$(mktemp -d) && SCREENSHOTS=$$shots $(PYTEST) -q tests/system/test_demo_page.py tests/operators/test_admin_console.py \
	  && cp $$shots/desktop-light.png docs/images/demo.png && cp $$shots/console-crash.png docs/images/console.png; rm -rf $$shots

coverage: $(TEST)      ## how much of runtime/ and the ledger the quick tests run, in percent
	$(BIN)/coverage run --source=runtime,actors/ledger -m pytest -q -m "not long" tests/runtime tests/http tests/phoenix tests/ledger
	$(BIN)/coverage report --skip-covered --skip-empty

fuzz: $(TEST)          ## hypothesis with many more examples, and STREAMS (10000000) random byte streams
	nice $(BIN)/python -m tests.fuzz --streams $${STREAMS:-10000000}
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) -m "" -k "fuzz or stateful or property" --timeout 1800 $(ARGS)

soak: $(TEST) $(NODE)  ## the main job under load and kills for SOAK_SECONDS (600)
	SOAK_SECONDS=$${SOAK_SECONDS:-600} $(PYTEST) tests/system/test_main_job_load.py tests/system/test_main_job_kills.py --timeout 7200 $(ARGS)

browser:
	@$(BIN)/python -m tests.browser || true

# A stamp for each set: if there is nothing to do, make only compares times. pip does the same if uv fails. $(1) is the
# environment, $(2) the set. The peers of bench have an environment of their own, since they need older packages.
define install_set
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	@$(1)/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "BitNexus needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $@")'
	@test -x $(1)/bin/uv || $(1)/bin/pip install -q --disable-pip-version-check uv || true
	@VIRTUAL_ENV=$(CURDIR)/$(1) $(1)/bin/uv pip install -q --require-hashes -r requirements/$(2).txt \
	  || $(1)/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/$(2).txt
	@VIRTUAL_ENV=$(CURDIR)/$(1) $(1)/bin/uv pip install -q --no-deps -e . \
	  || $(1)/bin/pip install -q --disable-pip-version-check --no-deps -e .
endef

$(RUN): requirements/run.txt pyproject.toml
	@echo "Installing BitNexus into .venv ..."
	$(call install_set,.venv,run)
	@touch $@

$(TEST): requirements/test.txt $(RUN)
	@echo "Installing what the tests need into .venv ..."
	$(call install_set,.venv,test)
	@touch $@

# A peer that can't be installed is left out and reported; it must not stop the others.
$(BENCH): requirements/bench.txt requirements/peers.txt pyproject.toml bench/peers/node/package-lock.json
	@echo "Installing the bench, and the peers to measure against, into .venv-bench ..."
	$(call install_set,.venv-bench,bench)
	@VIRTUAL_ENV=$(CURDIR)/.venv-bench .venv-bench/bin/python -m bench.peers.install
	@touch $@

$(NODE): tests/node/package-lock.json $(TEST)
	@$(BIN)/python -m tests.node npm ci --silent
	@touch $@

lock: $(TEST)          ## resolve the locked versions again, from the lower bounds in pyproject.toml
	@for set in run test bench peers; do \
	  $(BIN)/uv pip compile pyproject.toml --extra $${set/run/observer} --python-version 3.11 --generate-hashes --upgrade \
	    --no-header --no-annotate --no-emit-index-url --no-emit-find-links -q -o requirements/$$set.txt \
	    $$(test $$set = run || echo -c requirements/run.txt) || exit 1; done
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  | $(BIN)/uv pip compile - --python-version 3.11 --generate-hashes --upgrade --no-header --no-annotate --no-emit-index-url \
	    --no-emit-find-links -q -o requirements/build.txt

audit: $(RUN)          ## check the locked versions for known vulnerabilities
	@report=$$($(BIN)/uv tool run -q pip-audit --require-hashes --disable-pip -r requirements/run.txt 2>&1); code=$$?; \
	  if [ -z "$$report" ] || grep -q "could not be audited\|not found in the package registry" <<< "$$report"; then \
	    echo "audit: this package index has no data on vulnerabilities (or no pip-audit), so nothing was checked" >&2; exit 1; \
	  fi; echo "$$report"; exit $$code

vendor: $(NODE)        ## copy the pages' phoenix and uPlot from npm into api/pages/vendor (RapiDoc: see tests/system/test_vendor.py)
	@cd tests/node/node_modules && for pair in phoenix/priv/static/phoenix.mjs:phoenix.mjs uplot/dist/uPlot.esm.js:uplot.mjs \
	  uplot/dist/uPlot.min.css:uplot.css uplot/LICENSE:uplot.LICENSE.md phoenix/LICENSE.md:phoenix.LICENSE.md; do \
	  sed '/^\/\/# sourceMappingURL/d' "$${pair%%:*}" > "../../../api/pages/vendor/$${pair##*:}" || exit 1; done

clean:                 ## remove the environment and caches (not the data in .data)
	rm -rf .venv .venv-bench .venv-docs site .pytest_cache .ruff_cache .hypothesis tests/node/node_modules tests/go/bin bench/peers/node/node_modules *.egg-info build
