# Every target works on a machine with Python 3.11 or newer and pip, nothing else installed.
# VENV is created when missing; a set of extras is installed again only when pyproject.toml or
# constraints.txt has changed.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
SPHINX_ARGS ?=

override PY := $(VENV)/bin/python
override PIP := $(PY) -m pip --disable-pip-version-check
override SOURCES := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help:  ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 12

$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11; pass PYTHON=/path/to/a/newer/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# .stamp-EXTRA: the package, editable, with that extra.
$(VENV)/.stamp-%: $(VENV)/.stamp-venv $(SOURCES)
	$(PIP) install -c constraints.txt -e '.[$*]'
	@touch $@

# Two extras installed at once (make -j) would write to one environment.
.NOTPARALLEL:

.PHONY: demo
demo: $(VENV)/.stamp-plot  ## cross-validate kernels on real tables, print a table, write a figure
	MPLBACKEND=Agg $(PY) examples/plot_quickstart.py

.PHONY: test
test: $(VENV)/.stamp-test  ## run the whole test suite
	SCIPY_ARRAY_API=1 $(PY) -m pytest $(PYTEST_ARGS)

.PHONY: coverage
coverage: $(VENV)/.stamp-test  ## run the suite and report the lines it misses
	SCIPY_ARRAY_API=1 $(PY) -m pytest --cov --cov-report=term-missing $(PYTEST_ARGS)

.PHONY: check
check: $(VENV)/.stamp-dev  ## format, lint, spelling, types, layering, import without warnings
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m codespell_lib
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(PY) -W error -c "import sknk"

.PHONY: format
format: $(VENV)/.stamp-dev  ## rewrite the sources in the house format
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

.PHONY: docs
docs: $(VENV)/.stamp-docs  ## build the documentation; warnings are errors
	MPLBACKEND=Agg $(PY) -m sphinx -W --keep-going -b html $(SPHINX_ARGS) docs docs/_build/html

.PHONY: bench
bench: $(VENV)/.stamp-test  ## run every benchmark; figures go to benchmarks/results
	@set -e; for script in benchmarks/[!_]*.py; do echo "== $$script"; $(PY) $$script; done

.PHONY: clean
clean:  ## remove the environment, caches and built pages
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis htmlcov
	rm -rf .coverage build dist docs/_build docs/auto_examples docs/generated
	rm -f docs/sg_execution_times.rst
	find sknk tests benchmarks examples docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
