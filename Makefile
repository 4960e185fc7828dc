# Everything a fresh machine needs is Python 3.11 or later, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test check install browser evals manual format clean

demo: $(VENV)/.installed
	$(BIN)/llm-relabel demo

# What .ci/run runs: format, lint, types, tests.
test: $(VENV)/.installed-dev check browser
	$(BIN)/python -m pytest -n auto --dist worksteal

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

install: $(VENV)/.installed

# Every benchmark that the data in LLM_RELABEL_DATA allows, and the table of results; hours.
evals: $(VENV)/.installed-dev
	$(PIP) --editable '.[evals]'
	$(BIN)/python evals/everything.py

# The pages of the manual that repeat what the code says: the job file, the command line.
manual: $(VENV)/.installed-dev
	$(BIN)/python -m llm_relabel.manual

# The report's page is tested in a real Chromium. It is installed only where that is plainly
# possible (as root, with apt); elsewhere those tests skip and say why. Never fails the build.
browser:
	@for name in chromium chromium-browser google-chrome; do \
		command -v $$name >/dev/null 2>&1 && exit 0; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "Installing Chromium for the tests of the report's page ..."; \
		export DEBIAN_FRONTEND=noninteractive; \
		add="apt-get install -y -qq --no-install-recommends chromium"; \
		timeout 300 sh -c "$$add || { apt-get update -qq && $$add; }" >/dev/null 2>&1 </dev/null; \
	fi; \
	command -v chromium >/dev/null 2>&1 || \
		echo "No Chromium here: the tests of the report's page will be skipped."

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "llm_relabel needs Python 3.11 or later; name one with: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone: otherwise the resolver may fetch another, much larger build of it.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) demo-run dist build
