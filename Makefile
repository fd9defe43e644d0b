# Two commands: `make quickstart` runs the main job, `make test` the tests; each sets itself up.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
PY := .venv/bin/python
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

# TensorFlow I/O has wheels for these only, and loads into an older TensorFlow: a place of its own.
PYTHON_IO ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
PY_IO := .venv-io/bin/python
INSTALL_IO := $(PY_IO) -m pip install --quiet --disable-pip-version-check -c constraints-io.txt

# Real renderings and voxels for the tests that check against them; those skip where it is absent.
export R2N2_REAL_DATA ?= $(abspath $(wildcard ../shared/real))

# What computes with Keras: the tests that the other two backends run, too.
BACKEND_TESTS := $(patsubst %,tests/model/%_test.py,layers losses metrics networks r2n2 recurrence)

.PHONY: quickstart setup setup-dev setup-torch setup-io
.PHONY: test test-jax test-torch test-io test-slow lint clean

quickstart: setup
	$(PY) -m r2n2_keras.train --flagfile=configs/quickstart.cfg
	$(PY) -m r2n2_keras.evaluate --workdir=runs/quickstart
	$(PY) -m r2n2_keras.predict --workdir=runs/quickstart
	$(PY) -m r2n2_keras.export --workdir=runs/quickstart

setup: .venv/installed

setup-dev: .venv/installed-dev

setup-torch: .venv/installed-torch

setup-io: .venv-io/installed

test: setup-dev
	$(PY) -m pytest -n 2 --dist loadscope

test-jax: setup-dev
	KERAS_BACKEND=jax XLA_FLAGS=--xla_backend_optimization_level=0 \
		$(PY) -m pytest -n 2 $(BACKEND_TESTS)

test-torch: setup-torch
	KERAS_BACKEND=torch $(PY) -m pytest -n 2 $(BACKEND_TESTS)

test-io: .venv-io/installed-dev
	$(PY_IO) -m pytest tests/io

test-slow: setup-dev
	$(PY) -m pytest -n 2 --maxschedchunk=1 --timeout=1800 -m slow

lint: setup-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports

clean:
	rm -rf .venv .venv-io .pytest_cache .ruff_cache .import_linter_cache

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: expected Python 3.11, 3.12 or 3.13, found none." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL) -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(INSTALL) -e ".[dev,serve,export]"
	touch $@

.venv/installed-torch: .venv/installed-dev
	$(INSTALL) -e ".[dev,serve,export,torch]"
	touch $@

.venv-io/installed: pyproject.toml constraints-io.txt
	@test -n "$(PYTHON_IO)" || { echo "error: expected Python 3.11 or 3.12, which TensorFlow I/O" \
		"needs, found neither. Install one, or name it: make setup-io PYTHON_IO=FILE." >&2; exit 1; }
	$(PYTHON_IO) -m venv .venv-io
	$(INSTALL_IO) -e ".[io]"
	touch $@

.venv-io/installed-dev: .venv-io/installed
	$(INSTALL_IO) -e ".[io,io-dev]"
	touch $@
