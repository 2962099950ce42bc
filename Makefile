# make search   set up, then the whole road on real images: supernet, search by NNI, retrain, export, report
# make quick    set up, then the unit tests but for the slow ones (a minute on two quiet cores)
# make test     set up, then all tests
# make bench-gpu   set up, then all measurements on a GPU, at most 8 minutes: benchmarks/results/gpu/
# make lint     set up, then the checks of style, spelling and types
# make docs     set up, then the documentation as a site for reading offline: site/index.html
# The set-up takes the newest Python that works; another: make PYTHON=/path/to/python3.12 ... An environment that stands
# stays in use, whichever Python it has; a second one beside it: make VENV=.venv-3.12 PYTHON=/path/to/python3.12 quick
PYTHONS := python3.13 python3.12 python3.11 python3
SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
VERSION := import sys; print("Python %d.%d" % sys.version_info[:2])
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/quickstart

.PHONY: setup search quick test bench-gpu lint docs clean

setup: $(VENV)/.done
ifeq ($(origin PYTHON),command line)
	@asked=$$("$(PYTHON)" -c '$(VERSION)' 2>&1 | tail -n 1); has=$$($(BIN)/python -c '$(VERSION)'); [ "$$asked" = "$$has" ] || \
		{ echo "error: $(VENV) has $$has, and PYTHON=$(PYTHON) is '$$asked'; leave PYTHON out, or make an environment beside" \
		"this one: make VENV=.venv-other PYTHON=$(PYTHON) $(MAKECMDGOALS)"; exit 1; }
endif

# A name may stand in PATH and not work, as pyenv's do for versions that are not switched on: each is tried. An environment
# without pip was stopped while it was made.
$(BIN)/python $(BIN)/pip &:
	@for python in $(if $(PYTHON),"$(PYTHON)",$(PYTHONS)); do \
		if "$$python" -c '$(SUPPORTED)' 2>/dev/null; then rm -f $(BIN)/python*; exec "$$python" -m venv $(VENV); fi; \
	done; \
	echo "error: Onepath needs Python 3.11, 3.12 or 3.13, with its module venv, and found none as $(or $(PYTHON),$(PYTHONS));" \
		"run: make PYTHON=/path/to/python3.13 $(MAKECMDGOALS)"; exit 1

$(VENV)/.done: pyproject.toml constraints.txt | $(BIN)/python $(BIN)/pip
	@echo "set-up: installing into $(VENV) for $$($(BIN)/python -c '$(VERSION)') (about 6 GB, most of it PyTorch; a few minutes)"
	@$(BIN)/pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# A step that is complete is not done again: remove $(RUN) to start anew.
# Networks as small as the quickstart's gain nothing from a second thread; two processes at a time do.
# Half of the images are for the test: 898 tell networks apart that 359 would not. 448 steps are enough to be above the
# floor; the 1,500 that the defaults would choose take several times as long.
search: export OMP_NUM_THREADS = 1
search: setup
	@$(BIN)/python -m trials.supernet --space spos --preset tiny --data digits --test-fraction 0.5 --score-fraction 0.25 \
		--epochs 32 --warm-start 0.3 --out $(RUN) --resume
	@test -f $(RUN)/arc.json || $(BIN)/python -m trials.search experiments/quickstart.yml --concurrency 2 --resume
	@$(BIN)/python -m trials.retrain --fixed-arc $(RUN)/arc.json --supernet $(RUN) --epochs 16 --batch-size 32 \
		--seeds 2 --jobs 2 --resume
	@test -f $(RUN)/retrain/export/export.json || $(BIN)/python -m trials.export --weights $(RUN)/retrain
	@$(BIN)/python -m trials.certify $(RUN)

# Every process has one thread (tests/conftest.py sets it). Tests with NNI wait most of their time: of all tests, three
# processes at a time keep two cores busy. Each test goes to the process that is free, the longest first.
quick: setup
	@$(BIN)/python -m pytest -m "unit and not slow" --numprocesses 2 --dist load --maxschedchunk 1

test: setup
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest --numprocesses 3 --dist load --maxschedchunk 1

bench-gpu: setup
	@$(BIN)/python -m benchmarks.gpu

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell
	@$(BIN)/mypy

docs: export NO_MKDOCS_2_WARNING = 1
docs: setup
	@$(BIN)/python -c "import mkdocs, mmdr" 2>/dev/null || $(BIN)/pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@$(BIN)/python -m mkdocs build -q
	@echo "site/index.html; with its search: $(BIN)/python -m http.server --directory site"

clean:
	rm -rf $(VENV) runs site
