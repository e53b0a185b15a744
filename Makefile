# Each target sets up what it needs: a virtual environment with the pinned requirements and this package.
PYTHON ?= python3
VENV ?= .venv
PRESET ?= paper
READY := $(VENV)/.ready
PEERS := $(VENV)/.ready-bench
SWEEP ?= threshold_rate
EXPERIMENT ?= diehl_fc
RUNS ?= outputs/sweeps
OUT ?= outputs/comparison

.PHONY: help reproduce-paper sweep compare sync dashboard bench test test-slurm
help:
	@echo "make reproduce-paper [PRESET=quick]   train, convert, simulate, report: outputs/report/index.html"
	@echo "make sweep [SWEEP=threshold_rate EXPERIMENT=diehl_fc]   every job of a named grid; again: what is missing"
	@echo "make compare [RUNS=outputs/sweeps]    maps, curves, trade-offs of runs: OUT=outputs/comparison, SORT=NAME"
	@echo "make bench [ARGS=--quick]             seconds of ours and of other libraries: outputs/bench/bench.md"
	@echo "make sync, make dashboard             upload the offline W&B runs; look at them in the terminal"
	@echo "make test                             the test suite"
	@echo "make test-slurm                       a sweep as a job array; as root on Debian, installs a one-node Slurm"

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -r requirements.txt
	$(VENV)/bin/python -m pip install --quiet --no-deps -e .
	touch $@

$(PEERS): $(READY) requirements-bench.txt
	$(VENV)/bin/python -m pip install --quiet -r requirements.txt -r requirements-bench.txt
	touch $@

reproduce-paper: $(READY)
	$(VENV)/bin/python -m respike.reproduce $(PRESET) $(ARGS)

sweep: $(READY)
	$(VENV)/bin/python -m respike.train sweep=$(SWEEP) experiment=$(EXPERIMENT) $(ARGS)
compare: $(READY)
	$(VENV)/bin/python -m respike.report $(RUNS) --compare --out $(OUT) --sort=$(SORT) $(ARGS)

sync dashboard: $(READY)
	$(VENV)/bin/python -m respike.runs.offline $@ $(ARGS)

bench: $(PEERS)
	$(VENV)/bin/python -m respike.bench $(ARGS)

test: $(READY)
	$(VENV)/bin/python -m pytest $(ARGS)

test-slurm: $(READY)
	RESPIKE_SLURM=1 $(VENV)/bin/python -m pytest -rs tests/cluster $(ARGS); code=$$?; tests/cluster/slurm.sh stop; exit $$code
