# `make demo`, `make test` and the others: each sets up what it needs in a virtual environment of its own.
PYTHON ?= python3
VENV ?= .venv
PROCESSES ?= 2
# The tests of a file share models and runs, so one process has them all. Files come in random order: by the number of their tests,
# long files of few tests would come last, and one process would wait for the other.
PYTEST ?= -n $(PROCESSES) --dist loadfile --no-loadscope-reorder --durations=10
# Most tests wait for the disk longer than they compute, so stores lie in memory where the system has room for that;
# `make test-disk` tries stores and kills where TMPDIR says.
TESTS_TMP ?= $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4e6 {print "/dev/shm"}')
IN_MEMORY = $(if $(TESTS_TMP),PYTEST_DEBUG_TEMPROOT=$(TESTS_TMP))
MAJOR = $(shell $$(ls $(VENV)/bin/python 2>/dev/null || echo $(PYTHON)) -c 'import sys; print(5 if sys.version_info < (3, 12) else 6)')
# Versions that are known to work, so that nothing changes by itself; CONSTRAINTS= takes the newest.
CONSTRAINTS ?= constraints/pymc$(MAJOR).txt

.PHONY: demo test test-slow test-disk test-slow-version test-all lint coverage docs bench torture torture-long changelog clean

demo: $(VENV)/ready
	$(VENV)/bin/python examples/demo.py

test: $(VENV)/ready
	$(IN_MEMORY) $(VENV)/bin/python -m pytest -m "not slow" $(PYTEST)

test-slow: $(VENV)/ready
	$(IN_MEMORY) $(VENV)/bin/python -m pytest -m slow $(PYTEST)

# What depends on a real disk.
test-disk: $(VENV)/ready
	$(VENV)/bin/python -m pytest -m "not slow" $(PYTEST) tests/contracts/test_store_contract.py tests/contracts/test_zip.py tests/guarantees/test_kill.py tests/guarantees/test_files_and_bytes.py tests/unit/stores

# On the other end of PyMC: what depends on its version, of the slow ones.
test-slow-version: $(VENV)/ready
	$(IN_MEMORY) $(VENV)/bin/python -m pytest -m slow $(PYTEST) tests/guarantees/test_resume_is_exact.py tests/contracts/test_step_methods.py tests/contracts/test_trace.py

test-all: test test-slow test-disk

lint: $(VENV)/ready
	$(VENV)/bin/python -m ruff check --no-cache .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m codespell_lib
	$(VENV)/bin/python -m mypy

# Of the tests without the slow ones, by room.
coverage: $(VENV)/ready
	$(VENV)/bin/python -m coverage erase
	$(VENV)/bin/python -m coverage run -m pytest -m "not slow" $(PYTEST)
	$(VENV)/bin/python .ci/coverage

# The code blocks of the pages run first: what they show is what happens.
docs: $(VENV)/ready
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[docs]'
	$(VENV)/bin/python -m pytest docs -q -W default -p no:randomly -p no:xdist --no-header
	$(VENV)/bin/python -m sphinx -b html -W --keep-going -q docs build/site

bench: $(VENV)/ready
	$(VENV)/bin/python -m pytest benchmarks -q -p no:randomly -p no:xdist --benchmark-disable-gc --benchmark-columns=median,iqr,rounds $(BENCH)

torture: $(VENV)/ready
	$(VENV)/bin/python -m torture $(TRIALS)

torture-long: $(VENV)/ready
	$(VENV)/bin/python -m torture --long --record $(TRIALS)

changelog:
	.ci/changelog

clean:
	rm -rf $(VENV) build

$(VENV)/ready: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[test]'
	touch $@
