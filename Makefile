# make workbook | test | test-fast | test-long | lab | student | bench | clean
# Variables: DATA (a folder; default: simulated), PROFILE (smoke, laptop, report), SEEDS (trainings of each row; default: 1), INVALID (raise, drop, clip), RUNS (own, reference), NAMES (of benchmarks), PYTHON, PIP_ARGS
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

workbook: $(READY)
	$(BIN)/detlib workbook $(if $(DATA),--data "$(DATA)") $(if $(PROFILE),--profile $(PROFILE)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(INVALID),--invalid $(INVALID)) $(if $(RUNS),--runs $(RUNS))

# a process for each core, up to four, with one thread each
test: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

# without what trains much, starts processes or browsers
test-fast: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(PYTEST_ARGS)

# what is too long for every change: kills, broken files, full disks, real frames; at most 45 minutes; figures in outputs/bench/reliability.json
test-long: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/long $(PYTEST_ARGS)

student: $(READY)
	$(BIN)/detlib student

lab: $(READY)
	$(if $(DATA),DETLIB_DATA="$(abspath $(DATA))") $(if $(PROFILE),DETLIB_PROFILE=$(PROFILE)) $(if $(SEEDS),DETLIB_SEEDS=$(SEEDS)) $(if $(INVALID),DETLIB_INVALID=$(INVALID)) $(if $(RUNS),DETLIB_RUNS=$(RUNS)) $(BIN)/jupyter lab --LabApp.app_settings_dir=$(CURDIR)/notebooks/.lab --notebook-dir=. notebooks/00_start_here.ipynb

$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) once: about 6 GB with the CUDA build of torch that pip brings on Linux, and a few minutes (see README for the small CPU build)."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "detlib needs Python 3.11 or newer; name one: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

bench: $(READY)
	$(BIN)/detlib bench $(NAMES)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

.PHONY: workbook test test-fast test-long lab student bench clean
