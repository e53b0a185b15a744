# Each target first sets up what it needs: a virtual environment with the pinned requirements and this package.
PYTHON ?= python3
VENV ?= .venv
# Of the command line only: OUT, RUNS, ARGS are common names of environment variables.
PRESET = paper
SEEDS = 1
SWEEP = threshold_rate
EXPERIMENT = diehl_fc
RUNS = outputs/sweeps
OUT = outputs/comparison
SORT =
ARGS =
ifneq ($(words $(VENV)),1)
$(error VENV=$(VENV): a path without spaces is needed; type make VENV=.venv)
endif
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PEERS := $(VENV)/.ready-bench

.PHONY: help reproduce-paper sweep compare bench sync dashboard test test-peers docs lint types format test-slurm
help:
	@echo "reproduce"
	@echo "  make reproduce-paper [PRESET=paper SEEDS=1]   the published rows: outputs/report/index.html (PRESET=quick: minutes; PRESET=energy: the energy runs)"
	@echo "  make sweep [SWEEP=threshold_rate EXPERIMENT=diehl_fc]   a named grid; again: only missing jobs"
	@echo "  make compare [RUNS=outputs/sweeps OUT=outputs/comparison SORT=NAME]   runs side by side"
	@echo "  make bench [ARGS=--quick]             time this package and other libraries: outputs/bench/bench.md"
	@echo "  make sync                             upload the offline W&B runs"
	@echo "  make dashboard                        show the offline W&B runs in the terminal"
	@echo "develop"
	@echo "  make test                             the test suite"
	@echo "  make test-peers                       that networks of other libraries spike as ours; installs the libraries"
	@echo "  make docs                             write the measured tables of README, docs and outputs/reference"
	@echo "  make lint                             ruff: rules and format"
	@echo "  make types                            mypy on src"
	@echo "  make format                           apply ruff's fixes and format"
	@echo "  make test-slurm                       a sweep on a one-node Slurm (Debian, root)"
	@echo "variables: PYTHON=python3.12 (interpreter), VENV=.venv (environment), ARGS=... (more arguments)"

$(READY): requirements.txt pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet -r requirements.txt
	$(PY) -m pip install --quiet --no-deps -e .
	touch $@

$(PEERS): $(READY) requirements-bench.txt
	$(PY) -m pip install --quiet -r requirements.txt -r requirements-bench.txt
	touch $@

reproduce-paper: $(READY)
	$(PY) -m respike.reproduce $(PRESET) --seeds=$(SEEDS) $(ARGS)

sweep: $(READY)
	$(PY) -m respike.train sweep=$(SWEEP) experiment=$(EXPERIMENT) $(ARGS)

compare: $(READY)
	$(PY) -m respike.report $(RUNS) --compare --out $(OUT) --sort=$(SORT) $(ARGS)

bench: $(PEERS)
	$(PY) -m respike.bench $(ARGS)

sync dashboard: $(READY)
	$(PY) -m respike.runs.offline $@ $(ARGS)

test: $(READY)
	$(PY) -m pytest $(ARGS)

test-peers: $(PEERS)
	$(PY) -m pytest -n 0 -rs tests/bench/test_peers.py tests/bench/test_nir_peers.py tests/bench/test_neurobench.py \
		tests/bench/test_training.py $(ARGS)

docs: $(READY)
	$(PY) -m respike.report.docs $(ARGS)

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(READY)
	$(PY) -m mypy

format: $(READY)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

test-slurm: $(READY)
	RESPIKE_SLURM=1 $(PY) -m pytest -rs tests/cluster $(ARGS); code=$$?; tests/cluster/slurm.sh stop; exit $$code
