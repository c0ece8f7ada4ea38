# make demo        transcribe an example with the small model that ships
# make test        all tests
# make test-ray    those on a local Ray cluster, for which it installs Ray
# make test-torch  those of the CUDA backend, in Triton's interpreter, for which it installs torch and Triton; on a
#                  machine with a GPU: make test-torch TRITON_INTERPRET=0
# make check       lint, format and types
# make train       the model that ships, from nothing: hours, and Debian's speech engines (train/README.md)
#
# Each creates what it needs in .venv, from the package index alone. PYTHON=… chooses the interpreter.

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
RUN := $(VENV)/bin/python

TRITON_INTERPRET ?= 1

.PHONY: demo test test-long test-ray test-torch check train clean

demo: $(VENV)/.installed
	$(VENV)/bin/eardrop transcribe examples/command.flac

test: $(VENV)/.developing
	$(RUN) -m pytest

test-long: $(VENV)/.developing
	EARDROP_TEST_LONG=1 $(RUN) -m pytest

test-ray: $(VENV)/.developing
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev,ray]'
	$(RUN) -m pytest tests/test_ray.py

test-torch: $(VENV)/.developing
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev,cuda]'
	TRITON_INTERPRET=$(TRITON_INTERPRET) $(RUN) -m pytest tests/ops/test_ops.py tests/backends/cuda -k cuda

check: $(VENV)/.developing
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

train: $(VENV)/bin/python pyproject.toml
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[train]'
	$(RUN) -m train

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "eardrop needs Python 3.11 or newer: none was found; name one with PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.developing: $(VENV)/bin/python pyproject.toml
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
