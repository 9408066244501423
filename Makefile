# make demo   train a BERT on film reviews, make it spike, look at its accuracy over time (a few minutes)
# make test   all tests
# make lint   style, types, import directions
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint install clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "snn needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(INSTALLED)
	$(RUN) train.py model=bert neuron=para_inf T=8

test: $(INSTALLED)
	$(RUN) -m pytest --numprocesses auto --dist loadfile

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

clean:
	rm -rf outputs multirun/train multirun/convert multirun/evaluate .pytest_cache .mypy_cache .ruff_cache
