# Two commands matter: `make demo` and `make test`. Everything lives in .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := plugins/qwen_oauth plugins/minimax plugins/ollama plugins/cap_tokens

.PHONY: demo test agents check docs format bench clean
.DEFAULT_GOAL := demo

# What a user needs: core, the plugins.
$(VENV)/installed: pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "llmgate needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . $(PLUGINS:%=-e %)
	@touch $@

# What a developer needs besides: `dev` in pyproject.toml.
$(VENV)/developer: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		$$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"])')
	@touch $@

demo: $(VENV)/installed
	$(BIN)/llmgate serve --demo

test: $(VENV)/developer
	@# Three for two cores: many tests wait more than they compute. By file, as its tests share what is slow to make.
	$(BIN)/python -m pytest -n 3 --dist loadfile

# Real coding agents; see CONTRIBUTING.md. Needs Node.js 20 or newer, with npm.
agents: $(VENV)/developer
	$(BIN)/python -m agents.install
	$(BIN)/python -m pytest -n 2 agents

check: $(VENV)/developer docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# Apart, because several folders are called `tests`.
	for plugin in $(PLUGINS); do $(BIN)/mypy $$plugin/tests || exit 1; done

# The documentation as a site, in build/docs; a link that leads nowhere is a failure.
docs: $(VENV)/developer
	@# Not --quiet: a warning that is not shown is not counted either.
	$(BIN)/mkdocs build --strict

format: $(VENV)/developer
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/developer
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) agents/node_modules build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
