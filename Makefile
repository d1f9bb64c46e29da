# make demo · make test · make test-all · make lint · make bench: each installs into .venv by itself when it must.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint format bench install

demo: install
	$(BIN)/topeng demo

test: install
	$(BIN)/pytest -m "not slow"

test-all: install
	$(BIN)/pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	@set -e; for script in benchmarks/*.py; do echo "$$script"; $(BIN)/python $$script; done

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[ray]' --group dev
	touch $@
