# `make demo`, `make test` and the others: each sets up what it needs in a virtual environment of its own.
PYTHON ?= python3
VENV ?= .venv
PROCESSES ?= 2
PYTEST ?= -n $(PROCESSES)

.PHONY: demo test test-slow test-all lint bench torture torture-long clean

demo: $(VENV)/ready
	$(VENV)/bin/python examples/demo.py

test: $(VENV)/ready
	$(VENV)/bin/python -m pytest -m "not slow" $(PYTEST)

test-slow: $(VENV)/ready
	$(VENV)/bin/python -m pytest -m slow $(PYTEST)

test-all: test test-slow

lint: $(VENV)/ready
	$(VENV)/bin/python -m ruff check --no-cache .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy

bench: $(VENV)/ready
	$(VENV)/bin/python -m pytest benchmarks -q -p no:randomly -p no:xdist --benchmark-disable-gc --benchmark-columns=median,iqr,rounds $(BENCH)

torture: $(VENV)/ready
	cd tests && $(abspath $(VENV))/bin/python -m torture $(TRIALS)

torture-long: $(VENV)/ready
	cd tests && $(abspath $(VENV))/bin/python -m torture --long --record $(TRIALS)

clean:
	rm -rf $(VENV)

$(VENV)/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@
