SHELL := /bin/bash
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# `dvc` runs the stages with the environment's own python.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1

.PHONY: help install repro full test bench reproducible docs lock

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

install: $(VENV)/installed ## install what is missing into .venv
	@test -e .git || git init -q

repro: install ## install what is missing, run the whole pipeline, print the answers
	@dvc repro
	@transferscope recommend

full: install ## the same with the wider grids of profile `full` in params.yaml; hours, not minutes
	@transferscope profile full
	@dvc repro
	@transferscope recommend

test: $(VENV)/installed ## install what is missing, check style and types, run the tests
	@ruff check . && ruff format --check . && mypy
	@pytest

bench: $(VENV)/installed ## measure what the project exists for against the obvious alternative
	@set -e; for bench in tests/bench/bench_*.py; do echo "== $$bench"; PYTHONPATH=. python $$bench; done

reproducible: $(VENV)/installed ## run everything twice from nothing and compare the result tables byte by byte
	@python tests/reproducible.py

docs: $(VENV)/installed ## write docs/tables.md and the command help in the README from the program
	@python -m pipelines.docs

lock: $(VENV)/installed ## resolve requirements.in into requirements.lock
	@pip install -q uv && uv pip compile --universal --python-version 3.11 requirements.in -o requirements.lock -q

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; say make PYTHON=python3.x")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV) (several GB the first time)"
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
