# make quickstart   install, check the machine, run the quickstart plan, say where its report is
# make test         install with the development tools, run the tests
#
# PYTHON=python3.12     which Python makes .venv (default: the first of 3.11 and 3.12 that runs)
# TORCH="torch==2.13.0" installed before everything else, with any options of pip: a build without CUDA is much smaller
# PYTEST="-k data"      more arguments for pytest

PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$python && break; done)
TORCH ?=
PYTEST ?=
WORKERS ?= 2
PRESET ?= quick

BIN := .venv/bin
PIP := $(BIN)/pip install --quiet
# RoboDesk requires the retired `gym`, which it hardly uses
ROBODESK := $(PIP) --no-deps robodesk==1.0.0
# d3rlpy, for examples/read_with_d3rlpy.py, requires gymnasium 1.0.0 and works with the one here
D3RLPY := $(PIP) gym==0.26.2 dataclasses-json structlog click colorama && $(PIP) --no-deps d3rlpy==2.8.1

.DELETE_ON_ERROR:
.PHONY: quickstart test check install install-dev clean

quickstart: install
	$(BIN)/coworld-bench doctor
	$(BIN)/coworld-bench run quickstart --preset $(PRESET)
	$(BIN)/coworld-bench report quickstart --preset $(PRESET) --heatmap

test: install-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow and not gpu" $(PYTEST)

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

install: .venv/installed
install-dev: .venv/installed-dev

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; name it with PYTHON=..." >&2; exit 4; }
	$(PYTHON) -m venv .venv
	$(if $(TORCH),$(PIP) $(TORCH))

.venv/installed: pyproject.toml | .venv/bin/python
	$(PIP) -e .
	$(ROBODESK)
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	$(PIP) -e ".[dev]"
	$(ROBODESK)
	$(D3RLPY)
	@touch $@ .venv/installed

clean:
	rm -rf .venv
