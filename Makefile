# make run | test | notebooks | lab | bench: each sets up .venv first if requirements.txt changed since the last time.

BIN := .venv/bin
READY := .venv/.ready
# The first of these that is Python 3.11 or newer and can make environments. Or choose: make run PYTHON=/usr/bin/python3.12
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

.PHONY: run test notebooks lab bench clean

run: $(READY)
	@rm -rf runs/models && mkdir -p runs
	$(BIN)/papermill mlp_implementation.ipynb runs/mlp_implementation.ipynb \
		-p models_dir runs/models/mlp -p figures_dir runs/figures --progress-bar
	@echo
	@$(BIN)/python -m model_utils.results runs/models
	@echo "The notebook with its pictures: runs/mlp_implementation.ipynb"

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest

# Refreshes what is tracked: the notebooks' outputs, the saved models, and the results in README.md.
notebooks: $(READY)
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.coalesce_streams=True \
		--ExecutePreprocessor.record_timing=False mlp_implementation.ipynb
	$(BIN)/python -m model_utils.results models --into README.md

lab: $(READY)
	$(BIN)/jupyter lab mlp_implementation.ipynb

bench: $(READY)
	$(BIN)/python -m benchmarks.mlp_epoch
	$(BIN)/python -m model_utils.results models --into README.md

clean:
	rm -rf .venv runs

$(READY): requirements.txt
ifeq ($(PYTHON),)
	@echo "Python 3.11 or newer with its venv module is needed, and none was found."
	@echo "Install it from https://www.python.org/downloads/ (Debian, Ubuntu: apt install python3 python3-venv),"
	@echo "or say where it is: make $(MAKECMDGOALS) PYTHON=/path/to/python3"
	@exit 1
else
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@
endif
