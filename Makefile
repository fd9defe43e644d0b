# Two commands: `make quickstart` runs the main job, `make test` the tests; each sets itself up.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
PY := .venv/bin/python
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Real renderings and voxels for the tests that check against them; those skip where it is absent.
export R2N2_REAL_DATA ?= $(abspath $(wildcard ../shared/real))

.PHONY: quickstart setup setup-dev setup-torch test test-torch test-slow lint clean

quickstart: setup
	$(PY) -m r2n2_keras.train --flagfile=configs/quickstart.cfg
	$(PY) -m r2n2_keras.evaluate --workdir=runs/quickstart
	$(PY) -m r2n2_keras.predict --workdir=runs/quickstart
	$(PY) -m r2n2_keras.export --workdir=runs/quickstart

setup: .venv/installed

setup-dev: .venv/installed-dev

setup-torch: .venv/installed-torch

test: setup-dev
	$(PY) -m pytest -n 2 --dist loadscope
	KERAS_BACKEND=jax XLA_FLAGS=--xla_backend_optimization_level=0 \
		$(PY) -m pytest tests/model tests/evaluation/metrics_test.py

test-torch: setup-torch
	KERAS_BACKEND=torch $(PY) -m pytest tests/model tests/evaluation/metrics_test.py

test-slow: setup-dev
	$(PY) -m pytest -m slow

lint: setup-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports

clean:
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: expected Python 3.11, 3.12 or 3.13, found none." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL) -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(INSTALL) -e ".[dev]"
	touch $@

.venv/installed-torch: .venv/installed-dev
	$(INSTALL) -e ".[dev,torch]"
	touch $@
