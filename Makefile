# `make demo` and `make test` need only Python (3.10 or newer) and make; they set up .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := runs/demo
# Two files in parallel, one thread each: threads that wait for each other on busy cores are slower.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo test test-all notebooks coverage bench-speed lint docs package clean

# Installed again if the metadata changes.
$(READY): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

# OFA against OFAv2 on the embedded images; a second call finds everything finished and prints the results again.
demo: $(READY)
	$(BIN)/ofav2 ablate quick --out $(DEMO) --workers 2 --threads 1 --resume

test: $(READY)
	$(TESTS)

test-all: $(READY)
	$(TESTS) -m "slow or not slow"

# The notebooks in examples/, from top to bottom.
notebooks: $(READY)
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m slow tests/test_notebooks.py

# The tests with a table of the lines that they do not run; fails below 90 %.
coverage: $(READY)
	$(TESTS) --cov --cov-report=term:skip-covered --cov-fail-under=90

# Compares upstream with this package; about ten minutes on an otherwise idle machine.
bench-speed: $(READY)
	$(BIN)/python benchmarks/speed.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation site, in build/site.
docs: $(READY)
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict

# The source distribution and the wheel, in dist; then both are used outside the checkout.
package: $(READY)
	rm -rf dist
	$(BIN)/python -m pip install --quiet -e '.[release]'
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	PYTHON=$(PYTHON) .ci/check_package

clean:
	rm -rf $(VENV) runs build dist
