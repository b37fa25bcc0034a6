# Everything runs from .venv, made from the hash-locked files in requirements/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed

# Bytecode is written at the first import, and processes that are started share it.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check audit bench setup setup-dev lock clean

demo: $(RUNTIME)
	$(BIN)/federome demo $(DEMO)

# One hash seed, so that all test processes collect cases named after sets in the same order. Three of them, for two
# cores: tests of real processes and of browsers wait more than they compute. In the order of the folders: the long files
# are not the last ones. Kernels and tests are compiled once before, at the same time: else each process compiles all of
# them, and so does every process that a test starts where writing bytecode is switched off.
test: export PYTHONHASHSEED := 0
test: $(DEV)
	$(BIN)/python -m pytest --collect-only -q $(TEST) >/dev/null & \
	$(BIN)/python -c 'from federome.network.warm import warm; warm()'; status=$$?; wait; exit $$status
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(TEST)

check: $(DEV)
	$(BIN)/ruff check src tests requirements
	$(BIN)/ruff format --check src tests requirements
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Advisory: where the service of known vulnerabilities is out of reach it has nothing to say.
audit: $(DEV)
	-$(BIN)/pip-audit --progress-spinner off --disable-pip --require-hashes -r requirements/runtime.txt

bench: $(RUNTIME)
	$(BIN)/federome bench all

setup: $(RUNTIME)
setup-dev: $(DEV)

$(RUNTIME): requirements/install.py requirements/runtime.txt requirements/build.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Federome needs Python 3.11 or newer; set PYTHON=... to name one.")'
	$(PYTHON) requirements/install.py $(VENV) requirements/runtime.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-build-isolation --no-deps --no-index -e .
	@touch $@

$(DEV): requirements/dev.txt $(RUNTIME)
	$(PYTHON) requirements/install.py $(VENV) requirements/dev.txt
	@touch $@

# Needs uv on the PATH; only for people who change dependencies.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header
lock:
	$(LOCK) pyproject.toml -o requirements/runtime.txt
	$(LOCK) --group build -c requirements/runtime.txt -o requirements/build.txt
	$(LOCK) pyproject.toml --group dev -c requirements/runtime.txt -o requirements/dev.txt
	$(LOCK) requirements/suites.in --no-deps -c requirements/dev.txt -o requirements/suites.txt

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
