# Everything is done by tools/dev.py, which runs without make too: python tools/dev.py --help
# Variables: PYTHON=python3.12  VENV=.venv  ARGS="--epochs 2"  PEERS=0  SKIPS=0

PYTHON ?= python3
VENV ?= .venv
PEERS ?= 1
SKIPS ?= 1
ARGS ?=

DEV = "$(PYTHON)" tools/dev.py

.PHONY: help run test check format bench lowest

help:
	@echo "make run      install into .venv and train on handwritten digits"
	@echo "make test     lint, types, import contract and the whole test suite (PEERS=0: without torch, jax, ...)"
	@echo "make check    lint, format, types, import contract"
	@echo "make format   put the code into its format"
	@echo "make bench    time convgrad beside its peers"
	@echo "make lowest   the tests with the oldest supported versions"

run:
	@$(DEV) run --venv "$(VENV)" $(ARGS)

test:
	@$(DEV) test --venv "$(VENV)" $(if $(filter 0,$(PEERS)),--no-peers) $(if $(filter 0,$(SKIPS)),--no-skips)

check format lowest:
	@$(DEV) $@ --venv "$(VENV)"

bench:
	@$(DEV) bench --venv "$(VENV)" $(ARGS)
