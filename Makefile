# Two commands: `make run` and `make test`. Both set up first, which costs nothing when nothing changed.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
DATASET ?= shop
DATA ?=
PORT ?= 3000
JOBS ?= 2

.PHONY: run ui production test test-long test-spark lint lock setup clean

run: setup
	$(BIN)/footpath run --dataset $(DATASET) $(if $(DATA),--data $(DATA))

ui: setup
	$(BIN)/footpath ui --port $(PORT)

# Everything under supervisord, until Ctrl-C; see docs/production.md.
production: setup
	exec $(BIN)/footpath production --port $(PORT)

test: setup lint
	$(BIN)/pytest -n $(JOBS) -m "not long"

test-long: setup
	$(BIN)/pytest -m long

# Needs Java 17 or newer.
test-spark: setup
	@command -v java >/dev/null || { echo "java is not on the PATH: install Java 17 or newer"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-spark.txt
	$(BIN)/pytest -m "spark and not long"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python --level error
	$(BIN)/lint-imports

setup: $(READY)

# The stamp is written last: a set-up that was interrupted is begun again.
$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on the PATH: install Python 3.11, or say make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(READY)

# requirements.in to requirements.lock, by way of a fresh environment. Local versions (+cpu) are
# dropped, so that the same file gives a CPU or a CUDA build.
lock:
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.in
	{ head -2 requirements.lock; $(VENV)-lock/bin/python -m pip freeze | sed 's/+cpu//'; } > requirements.lock.new
	mv requirements.lock.new requirements.lock && rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
