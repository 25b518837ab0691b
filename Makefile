# Two commands: `make run` and `make test`. Both set up first, which costs nothing when nothing changed.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
READY_DEV := $(VENV)/ready-dev
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DATASET ?= shop
DATA ?=
PORT ?= 3000
JOBS ?= 2

.PHONY: run ui production test test-long test-spark lint lock setup setup-dev clean

run: setup
	$(BIN)/footpath run --dataset $(DATASET) $(if $(DATA),--data $(DATA))

ui: setup
	$(BIN)/footpath ui --port $(PORT)

# Everything under supervisord, until Ctrl-C; see docs/production.md.
production: setup
	exec $(BIN)/footpath production --port $(PORT)

test: lint
	$(BIN)/pytest -n $(JOBS) -m "not long"

test-long: setup-dev
	$(BIN)/pytest -m long

# Needs Java 17 or newer.
test-spark: setup-dev
	@command -v java >/dev/null || { echo "java is not on the PATH: install Java 17 or newer"; exit 1; }
	$(PIP) --requirement requirements-spark.txt
	$(BIN)/pytest -m "spark and not long"

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python --level error
	$(BIN)/lint-imports

setup: $(READY)

# The stamp is written last: a set-up that was interrupted is begun again. A lock is complete, so that
# nothing is resolved again.
$(READY): requirements.lock requirements-torch.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on the PATH: install Python 3.11, or say make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --no-deps --requirement requirements.lock
	$(PIP) --requirement requirements-torch.txt
	$(PIP) --no-deps --editable .
	@touch $(READY)

# What tests need besides; an installation that only runs goes without.
setup-dev: $(READY_DEV)

$(READY_DEV): requirements-dev.lock $(READY)
	$(PIP) --require-hashes --no-deps --requirement requirements-dev.lock
	@touch $(READY_DEV)

# requirements*.in to requirements*.lock, with the hashes of all platforms. Pins stay where they fit:
# remove a line of a lock, or add `LOCK=--upgrade-package NAME`, to have a newer release.
lock:
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	for name in requirements requirements-dev; do \
	  $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-annotate --no-strip-extras --custom-compile-command "make lock" $(LOCK) \
	    $$name.in -o $$name.lock || exit 1; \
	done
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
