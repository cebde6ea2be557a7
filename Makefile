# make run | test | fuzz | notebooks | report | lab | bench: each sets up .venv first if requirements.txt has changed since.

BIN := .venv/bin
NOTEBOOKS := mlp_implementation.ipynb cnn_implementation.ipynb
READY := .venv/.ready
# The first of these that is Python 3.11 or newer and can create virtual environments. Or choose: make run PYTHON=/usr/bin/python3.12
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

.PHONY: run test fuzz notebooks report lab extras bench clean

run: $(READY)
	@rm -rf runs/models && mkdir -p runs
	@for notebook in $(NOTEBOOKS); do \
		$(BIN)/papermill $$notebook runs/$$notebook --progress-bar || exit 1; done
	@echo
	@$(BIN)/python -m experiments models runs/models
	@echo "The notebooks with their pictures: $(addprefix runs/,$(NOTEBOOKS))"

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest

# The same property tests as in `make test`, with a hundred times as many examples, different ones each time.
fuzz: $(READY)
	$(BIN)/pytest tests/test_properties.py --hypothesis-profile=many

# Updates the tracked files: the notebooks' outputs, and from what they write to runs/, the saved models, README's picture
# and its results.
notebooks: $(READY)
	@rm -rf runs/models runs/figures
	$(BIN)/jupyter nbconvert --to notebook --inplace --execute --ExecutePreprocessor.record_timing=False $(NOTEBOOKS)
	@# Keep only the last state of each progress bar.
	$(BIN)/jupyter nbconvert --to notebook --inplace --CoalesceStreamsPreprocessor.enabled=True $(NOTEBOOKS)
	cp -R runs/models .
	cp runs/figures/*.png results/figures/
	$(BIN)/python -m experiments measure $$(cd runs && echo models/*/*)
	$(BIN)/python -m experiments report

# REPORT.md, its figures and README's table from the stored results, and runs/report.html to hand in.
report: $(READY)
	$(BIN)/python -m experiments report

lab: $(READY)
	$(BIN)/jupyter lab $(firstword $(NOTEBOOKS))

# Other libraries, for comparisons and optional parts; one that is unavailable is named and skipped.
extras: $(READY)
	@grep -v '^#' experiments/requirements.txt | while read package; do \
		$(BIN)/python -m pip install --disable-pip-version-check -q $$package || echo "unavailable: $$package"; done

bench: extras
	$(foreach benchmark,mlp_race mlp_memory prediction cnn_epoch cnn_accuracy,\
		$(BIN)/python -m experiments.benchmarks.$(benchmark) &&) \
	$(BIN)/python -m experiments report

clean:
	rm -rf .venv runs

$(READY): requirements.txt
ifeq ($(PYTHON),)
	@echo "This needs Python 3.11 or newer with its venv module, and none was found."
	@echo "Install it from https://www.python.org/downloads/ (Debian, Ubuntu: apt install python3 python3-venv),"
	@echo "or give its path: make $(MAKECMDGOALS) PYTHON=/path/to/python3"
	@exit 1
else
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, not " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@
endif
