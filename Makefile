# `make demo` and `make test` need only Python (3.10 or newer) and make; they set up .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := runs/demo
# Two files at a time, a thread each: threads that wait for each other on busy cores cost more than they bring.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo test test-all bench-speed lint clean

# Installed again whenever what is installed changes.
$(READY): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

# OFA against OFAv2 on the embedded photographs; a second call finds everything done and prints it again.
demo: $(READY)
	$(BIN)/ofav2 ablate quick --out $(DEMO) --resume

test: $(READY)
	$(TESTS)

test-all: $(READY)
	$(TESTS) -m "slow or not slow"

# Upstream and ours side by side, about ten minutes on a machine that does nothing else.
bench-speed: $(READY)
	$(BIN)/python benchmarks/speed.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs
