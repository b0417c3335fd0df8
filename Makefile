# Everything that is done with this checkout. `make` alone lists it.
# uv is bootstrapped, Kafka and PostgreSQL are found or started: nothing has to be installed by hand but Python, git,
# Java and Maven (as root on Debian not even those two).

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export UV_PYTHON_DOWNLOADS := never

PYTHON ?= python3
# of .venv, unless PYTHON says: a distribution's Python is built with profile-guided optimisation, which makes a worker
# a fifth to a third cheaper; a version manager's often is not
VENV_PYTHON := $(if $(filter file,$(origin PYTHON)),$(firstword $(wildcard /usr/bin/python3.1[1-9]) '>=3.11'),$(PYTHON))
BIN := .venv/bin
SYNCED := .venv/.synced
TESTS ?= tests
FILE ?=
SCENARIO ?=
CYCLES ?=
OUTAGE ?=
EVENTS ?=
RUNS ?= 1000000
ATHERIS := .tools/atheris-3.0.0
SEEDS ?= 10000
FIRST ?= 0
SEED ?=

.PHONY: help
help: ## Show this list
	@on= off=; if [ -t 1 ]; then on='\033[1m' off='\033[0m'; fi; \
	awk -v on="$$on" -v off="$$off" 'BEGIN {FS = ":.*## "} \
	/^[a-z-]+:.*## / {printf "  %smake %-9s%s %s\n", on, $$1, off, $$2}' $(MAKEFILE_LIST)

# the lock decides what is installed; a half-done sync leaves no stamp and is done again
$(SYNCED): uv.lock pyproject.toml $(wildcard */pyproject.toml) .ci/bootstrap_uv.py
	@uv=$$($(PYTHON) .ci/bootstrap_uv.py) && "$$uv" sync --quiet --frozen --all-packages --python $(VENV_PYTHON) && touch $@

# 33 MB that only `make fuzz` needs: kept out of the lock
$(ATHERIS):
	@uv=$$($(PYTHON) .ci/bootstrap_uv.py) && "$$uv" pip install --quiet --python $(BIN)/python \
	  --target $@.part --no-deps atheris==3.0.0 && mv $@.part $@

.PHONY: install
install: $(SYNCED) ## Make .venv with everything in it (and uv in .tools where it is missing), fetch the servers
	@$(BIN)/python -m penstock.stack

.PHONY: demo
demo: $(SYNCED) ## Real events through the whole pipeline; leaves the stack running (FILE=events.jsonl.gz for your own)
	@$(BIN)/penstock demo $(FILE)

.PHONY: up
up: $(SYNCED) ## Start Kafka, PostgreSQL and the schema registry, and wait until they answer
	@$(BIN)/penstock up

.PHONY: down
down: $(SYNCED) ## End what `make up` or `make demo` started; data is kept
	@$(BIN)/penstock down

# a third process for two cores: much of a test is waiting for a server, which seeds and fuzzing never do
test: WORKERS ?= 3
simulate fuzz: WORKERS ?= 2

.PHONY: test
test: $(SYNCED) ## Run all tests on real servers (WORKERS=4, TESTS=tests/unit)
	@$(BIN)/python -m penstock.stack
	@$(BIN)/pytest -n $(WORKERS) $(TESTS)

.PHONY: lint
lint: $(SYNCED) ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: types
types: $(SYNCED) ## Check types, strictly
	@$(BIN)/mypy

.PHONY: imports
imports: $(SYNCED) ## Check which distribution imports which
	@$(BIN)/lint-imports

.PHONY: wheel
wheel: $(SYNCED) ## Install the producer's wheel in a bare environment and look at what came along
	@uv=$$($(PYTHON) .ci/bootstrap_uv.py) && $(PYTHON) .ci/light_producer.py "$$uv"

.PHONY: check
check: lint types imports wheel test ## All of the above

.PHONY: bench
bench: $(SYNCED) ## Measure each part beside its limit (about ten minutes): table, benchmarks/results/latest.json and .svg
	@$(BIN)/python -m benchmarks run

.PHONY: bench-full
bench-full: $(SYNCED) ## The whole matrix of measurements, one to two hours
	@$(BIN)/python -m benchmarks run --full

.PHONY: faults
faults: $(SYNCED) ## Kill, stop, cut off and fill up real servers and workers (SCENARIO=zombie CYCLES=20; HELP=1)
	@PYTHONPATH=tests $(BIN)/python -m chaos $(if $(HELP),--help) $(if $(SCENARIO),--scenario $(SCENARIO)) \
	  $(if $(CYCLES),--cycles $(CYCLES)) $(if $(OUTAGE),--outage $(OUTAGE)) $(if $(EVENTS),--events $(EVENTS))

.PHONY: simulate
simulate: $(SYNCED) ## The worker's core under seeded faults (SEEDS=10000 FIRST=0; SEED=7 replays one with its trace)
	@PYTHONPATH=tests $(BIN)/python -m simulation --workers $(WORKERS) --seeds $(SEEDS) --first $(FIRST) $(if $(SEED),--seed $(SEED))

.PHONY: foreign
foreign: $(SYNCED) ## Clients of other makers in Python, Java and Go against our registry and topics (needs Go)
	@$(BIN)/pytest tests/acceptance/test_foreign_python.py tests/acceptance/test_foreign_java.py tests/acceptance/foreign/check_go.py

.PHONY: fuzz
fuzz: $(SYNCED) $(ATHERIS) ## Decoder and COPY rows by coverage (RUNS=1000000), then the property tests at length
	@PYTHONPATH=tests $(BIN)/python -m fuzz --atheris $(ATHERIS) --workers $(WORKERS) --runs $(RUNS)
	@$(BIN)/pytest -n $(WORKERS) --hypothesis-profile=fuzz tests/property

.PHONY: history
history: $(SYNCED) ## A history in files and in PostgreSQL: equal answers to 1,000 queries (FILE=events.jsonl.gz)
	@$(BIN)/python -m penstock.stack
	@HISTORY_FILE="$(if $(FILE),$(abspath $(FILE)))" $(BIN)/pytest -q -s -o faulthandler_timeout=7200 tests/acceptance/test_history.py

.PHONY: format
format: $(SYNCED) ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

.PHONY: clean
clean: ## End this checkout's stacks, remove their data, .venv and every cache (.tools stays)
	@if [ -x $(BIN)/penstock ]; then for stack in .penstock/*/stack.json; do \
	  [ ! -e "$$stack" ] || $(BIN)/penstock down --wipe --stack "$$(basename "$$(dirname "$$stack")")" || exit 1; done; fi
	@rm -rf .venv .penstock .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -not -path './.tools/*' -prune -exec rm -rf {} +
