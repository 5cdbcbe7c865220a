# Everything a person or a CI job does with this repository. `make` alone engines lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
SEEDS ?= 10000
ENGINE ?= multipaxos
APPLICATION ?= bank
NODES ?= 0
ROUNDS ?= 1000
EXAMPLES ?= 20000
BENCH ?=
ENGINES ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.PHONY: help setup demo test unit lint sim mutants soak bench alone engines fuzz lab pictures wheel clean

help: ## list these commands
	@echo "make demo   is the place to start: a bank that survives the death of its leader. All commands:"
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

setup: $(READY) ## make .venv with the package and all tools in it (every other command does this first)

# The stamp is written last, so a set-up that was interrupted is done again. Source files are used in place (an editable
# install); only pyproject.toml can make the environment stale.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed, and $(PYTHON) is not that. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@if ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
	  package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing $$package, which $(PYTHON) needs to make virtual environments ..."; \
	    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$$package"; \
	  else \
	    echo "$(PYTHON) cannot make virtual environments here. On Debian and Ubuntu: sudo apt-get install $$package" >&2; \
	    exit 1; \
	  fi; \
	fi
	@echo "Setting up $(VENV) (once; about a minute) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --quiet --upgrade 'pip>=25.1'
	@$(PIP) install --quiet --editable . --group dev
	@touch $@

demo: $(READY) ## three nodes, a client, and the leader killed in the middle: watch what happens (90 seconds)
	@$(BIN)/paxoscluster demo

# pytest stands last, so that its closing lines end the output: what was skipped and why (-ra), then the counts.
# It runs in one process: integration tests measure gaps, and a second worker on two cores would disturb them.
test: lint $(VENV)/.lab ## everything that CI runs: lint, types, unit, integration and simulation tests (under 25 minutes)
	@$(BIN)/pytest

unit: $(READY) ## only the tests that open no port and start no process
	@$(BIN)/pytest -m 'not integration and not simulation and not lab'

lint: $(READY) ## style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

sim: $(READY) ## simulate whole clusters under faults, one run a seed (make sim SEEDS=10000 ENGINE=epaxos NODES=5)
	@$(BIN)/paxossim swarm --seeds $(SEEDS) --engine $(ENGINE) --application $(APPLICATION) --nodes $(NODES)

mutants: $(READY) ## switch off safety rules one at a time, and show that the simulator notices each
	@$(BIN)/paxossim mutants

soak: $(READY) ## kill, freeze and restart real nodes under load (make soak ROUNDS=1000)
	@$(BIN)/paxoscluster soak --rounds $(ROUNDS)

bench: $(VENV)/.bench ## our cluster beside etcd, ZooKeeper and PySyncObj, as far as they are here (2 minutes: make bench BENCH=--quick)
	@$(BIN)/python -m benchmarks.versus $(BENCH)

alone: $(READY) ## throughput, round-trip times and CPU per command of our cluster alone
	@$(BIN)/python -m benchmarks

engines: $(READY) ## Multi-Paxos beside EPaxos: conflicts, thrifty sending, five sites on three continents (ENGINES=--quick)
	@$(BIN)/python -m benchmarks.engines $(ENGINES)

$(VENV)/.bench: $(READY)
	@$(PIP) install --quiet --group bench
	@touch $@

fuzz: $(READY) ## feed hostile bytes to frames, messages and configuration (make fuzz EXAMPLES=20000)
	@FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -m fuzz --hypothesis-profile=fuzz

lab: $(VENV)/.lab ## check the playbooks, and run them on virtual machines if root and packages are there (5 minutes)
	@$(BIN)/pytest tests/lab

# A virtual environment has its own pip, which the playbooks build wheels with.
$(VENV)/.lab: $(READY)
	@$(PIP) install --quiet --group lab
	@touch $@

pictures: $(VENV)/.docs ## draw the pictures of the client programs anew, from real sessions (1 minute)
	@$(BIN)/python docs/pictures.py

$(VENV)/.docs: $(READY)
	@$(PIP) install --quiet --group docs
	@touch $@

wheel: $(READY) ## build dist/*.whl
	@$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

clean: ## remove what these commands made, except recorded reports
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name dropin.cache -delete
