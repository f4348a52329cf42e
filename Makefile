# make demo: set up and run the main job.   make test: set up and pass the tests.   make bench: the benchmarks.
# make test-gpu, make bench-gpu: the same on a GPU.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STORE ?= results

.PHONY: help demo smoke test tests style types test-scenarios test-numerics test-chaos test-gpu lint bench bench-gpu docs docs-figures clean

help:
	@echo "make demo   set up a virtual environment here, train and analyse the demo sweep, write its report"
	@echo "make smoke  the same on a sweep of seconds, to prove the installation"
	@echo "make test   set up and run the linter, the type checker and the tests, in 7 to 25 minutes on 2 cores"
	@echo "make test-scenarios  the tests of minutes: whole deployments, killed services, SLURM, a browser, all five experiments"
	@echo "make test-numerics  the tests of numbers again, under other instruction sets and numbers of threads"
	@echo "make test-chaos  processes killed and storage failing while real commands run: what is lost, and what is left"
	@echo "make bench  our analysis, training and fan-out against the plain ways, and how a store grows"
	@echo "make docs   build the documentation site in build/site; make docs-figures  the figures that it shows"
	@echo "make test-gpu, make bench-gpu  tests and figures of an NVIDIA GPU, each in at most 8 minutes"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/specdyn run modular_addition --preset demo --store $(STORE)

smoke: $(VENV)/.installed
	$(BIN)/specdyn run modular_addition --preset smoke --store $(STORE)

lint: style types

style: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# The type checker runs beside the first tests, which wait for services to start.
test: style
	$(MAKE) -j 2 types tests

# One process more than the least machine has cores, as integration tests wait much.
tests: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=20

test-scenarios: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m scenario -n 3 --dist loadfile --no-loadscope-reorder --durations=20

test-numerics: $(VENV)/.installed-dev
	$(BIN)/python -m tests.numerics

# SPECDYN_CHAOS_SEED draws the same again as a session that named its seed.
test-chaos: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m chaos tests/chaos -n 2 --dist loadscope --durations=0 --durations-min=1

# Says what it uses, and stops where torch sees no GPU.
test-gpu: $(VENV)/.installed-dev
	$(BIN)/python -m tests.benchmarks.gpu --describe
	SPECDYN_TEST_GPU=1 timeout 470 $(BIN)/python -m pytest -n 4 -W default --maxfail=40 --session-timeout=430 \
		tests/tasks tests/models tests/properties

bench-gpu: $(VENV)/.installed-dev
	$(BIN)/python -m tests.benchmarks.gpu

bench: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python -m tests.benchmarks

# Needs no network once installed; a link or reference that leads nowhere ends it.
docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/python -m docs.site.build build/site

# FIGURES="report.png tickets.png" makes some of them; without it all, in about an hour on 2 cores.
docs-figures: $(VENV)/.installed-dev
	$(BIN)/python -m docs.site.figures $(FIGURES)

clean:
	rm -rf $(VENV) results build *.egg-info
