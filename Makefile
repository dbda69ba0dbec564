# `make demo` and `make test` set everything up in .venv, from nothing but Python and the registry.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
JOBS ?= 2

.PHONY: demo table train-zoo setup test soak test-oldest mutants lint docs clean

demo: $(VENV)/.demo
	$(BIN)/python tools/demo.py

# Published and measured side by side: make table ARGS="--checkpoint srresnet=FILE"
table: $(VENV)/.demo
	$(BIN)/python tools/make_table.py $(ARGS)

# The weights that ship: make train-zoo ARGS="--photographs FOLDER --vgg FILE [--cpu]". NIQE's model is in BasicSR.
train-zoo: $(VENV)/.basicsr
	$(BIN)/python tools/train_zoo.py $(ARGS)

# What the tests need, without running them.
setup: $(VENV)/.tests
	$(BIN)/python -m srgan_plugin doctor

# Two processes of one thread each: most tests are small, and threads wait for each other there.
test: $(VENV)/.tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadfile

# The proofs of docs/reliability.md in full. One of them: make soak SOAK=kill_and_resume ARGS="--seed 1"
SOAK ?= $(basename $(notdir $(wildcard tests/soak/*.py)))
soak: $(VENV)/.tests
	set -e; for proof in $(SOAK); do \
		echo "== $$proof"; OMP_NUM_THREADS=1 $(BIN)/python tests/soak/$$proof.py $(ARGS); done

# The oldest torch and numpy that are supported, in an environment of its own (Python up to 3.12).
test-oldest: $(VENV)-oldest/.done
	OMP_NUM_THREADS=1 $(VENV)-oldest/bin/python -m pytest -n $(JOBS) --dist loadfile

$(VENV)-oldest/.done: requirements/runtime.txt requirements/tests.txt
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/pip install --quiet wheel "setuptools<82"
	$(VENV)-oldest/bin/pip install --quiet torch==2.6.0 torchvision==0.21.0 numpy==1.26.4
	$(VENV)-oldest/bin/pip install --quiet --no-build-isolation --editable . \
		--requirement requirements/tests.txt numpy==1.26.4 torch==2.6.0
	touch $@

# Small faults in the package, drawn by a seed: make mutants ARGS="--seed 0 --count 60 --out FILE.json"
mutants: $(VENV)/.tests
	$(BIN)/python tests/mutate.py $(ARGS)

# Linters and types, in an environment that holds all they see by version, the same on every Python.
lint: $(VENV)-lint/.done
	$(VENV)-lint/bin/ruff check .
	$(VENV)-lint/bin/ruff format --check .
	$(VENV)-lint/bin/mypy
	$(VENV)-lint/bin/codespell

# The documentation, from docs/ and the docstrings: a warning or a broken internal link is an error.
docs: $(VENV)/.docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fail-on-warning --keep-going -q docs work_dirs/docs

$(VENV)-lint/.done: requirements/lint.txt
	$(PYTHON) -m venv $(VENV)-lint
	# Types need neither CUDA's libraries nor what else torch depends on.
	$(VENV)-lint/bin/pip install --quiet --no-deps --requirement requirements/lint.txt
	touch $@

# One environment serves both; each stamp says which requirements are in it.
$(VENV)/.%: requirements/runtime.txt requirements/%.txt setup.py | $(VENV)
	$(BIN)/pip install --quiet --editable .
	# Without isolation BasicSR builds with this torch; with it, pip fetches another one for that.
	$(BIN)/pip install --quiet --no-build-isolation --requirement requirements/$*.txt
	# Three packages bring a cv2 and overwrite each other's: the one that is left has to work.
	$(BIN)/python -c "import cv2, numpy; assert cv2.imencode('.png', numpy.zeros((8, 8), 'u1'))[0]"
	touch $@

$(VENV):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip wheel "setuptools<82"

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-lint work_dirs build *.egg-info .mypy_cache .ruff_cache
