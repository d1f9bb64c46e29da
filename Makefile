# make demo · make test · make test-all · make lint · make bench: each installs into .venv by itself when it must.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint format bench install browser

demo: install
	$(BIN)/topeng demo

# Two workers of one thread each: more threads than cores wait for each other.
test: install browser
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test-all: install browser
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest

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

# The pages are tested in Chromium: installed where root or sudo without a password can; else those tests are skipped.
browser:
	@command -v chromium >/dev/null || { \
		if [ "$$(id -u)" = 0 ]; then as=; else as="sudo -n"; fi; \
		$$as apt-get -qq update && $$as apt-get -qq install --yes --no-install-recommends chromium; \
	} >/dev/null 2>&1 || echo "chromium could not be installed: tests in a browser are skipped, and fail where CI is set"

.venv/.installed: pyproject.toml constraints.txt
	@echo "Installing into .venv: minutes, and several GB; pip says nothing as long as all is well."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[eval,ray]' --group dev
	@touch $@
