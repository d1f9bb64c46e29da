# make demo · make test · make test-all · make lint · make docs · make bench: each installs into .venv by itself when it must.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo kecil test test-all lint format docs bench install develop browser

demo: install
	$(BIN)/topeng demo

# Pretrains the base that comes with the package, and packs it: minutes on a GPU, many hours on a core.
kecil: install
	$(BIN)/topeng base recipes/kecil.yaml --run-dir runs/kecil
	$(BIN)/python tools/pack_kecil.py runs/kecil

# Two workers of one thread each: more threads than cores wait for each other. Bytecode is kept, for the processes that
# tests start.
test: develop browser
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test-all: develop browser
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest

lint: develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: develop
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The docs site, in site/: warnings and dead links are errors.
docs: .venv/.documented
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "The site is site/index.html"

bench: develop
	@set -e; for script in benchmarks/*.py; do echo "$$script"; $(BIN)/python $$script; done

install: .venv/.installed

develop: .venv/.developed

# The pages are tested in Chromium: installed where root or sudo without a password can; else those tests are skipped.
browser:
	@command -v chromium >/dev/null || { \
		if [ "$$(id -u)" = 0 ]; then as=; else as="sudo -n"; fi; \
		$$as apt-get -qq update && $$as apt-get -qq install --yes --no-install-recommends chromium; \
	} >/dev/null 2>&1 || echo "chromium could not be installed: tests in a browser are skipped, and fail where CI is set"

.venv/.installed: pyproject.toml constraints.txt
	@echo "Installing what the demo needs into .venv: some minutes, and several GB, most of them PyTorch's."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/pip install --constraint constraints.txt --editable .
	@touch $@

.venv/.developed: .venv/.installed
	@echo "Adding Ray, lm-evaluation-harness, the server and the tools of development: some minutes."
	@$(BIN)/pip install --constraint constraints.txt --editable '.[eval,export,ray,serve]' --group dev --group docs
	@touch $@

# Without Topeng's own packages, some of which have GB: the site reads the code, and runs none that needs them.
.venv/.documented: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/pip install --quiet --constraint constraints.txt pyyaml rich --group docs
	@touch $@
