SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: build test faults lint format docs site dist help environment environment-for-tests

UV_VERSION := 0.13.9
UV := .tools/bin/uv
BIN := .venv/bin
ISSUE_FORMS := $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
# The distribution had the command's name once. uv would remove the command with it, after the new
# one has brought it.
FORMER := $(wildcard .venv/lib/python3*/site-packages/slurm_factory-*.dist-info)
SCRIPTS := .ci/run $(shell find benchmarks setup-slurm slurm_factory tests tools -name '*.sh' 2>/dev/null)
ACTIONS := action.yml setup-slurm/action.yml

# The system's certificates also contain the CA of a proxy that inspects TLS.
export UV_SYSTEM_CERTS := 1
# Tests start hundreds of Python processes, each of which would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

build: environment ## Build Slurm for the release this machine runs, in LXD if possible
	tools/build.sh $(BIN)/slurm-factory

# Exit code 3: LXD cannot be used here. The container tests then report it themselves. Two processes
# take a file of tests each, in the order of tests/conftest.py; container tests wait more than they
# compute, and a build takes all CPUs.
test: environment-for-tests ## Run all tests, including those in containers
	tests/install-test-tools.sh .venv/share/module-systems
	$(BIN)/slurm-factory setup || [[ $$? == 3 ]]
	tools/with-lxd-group.sh $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# FAULTS: options of the program, such as `--resume` or `--only SIGKILL`.
faults: environment-for-tests ## Inject faults into builds for some hours, and write the table in docs/reliability.md
	tools/apt-install.sh faketime
	PYTHONPATH=tests/support tools/with-lxd-group.sh $(BIN)/python tests/integration/try_faults.py $(FAULTS)

lint: environment-for-tests ## Check style, types, shell scripts, workflows and actions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/deptry .
	$(BIN)/shellcheck $(SCRIPTS)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions $(ACTIONS)
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms $(ISSUE_FORMS)
	$(BIN)/zizmor --offline --quiet .github $(ACTIONS)

format: environment-for-tests ## Format the Python code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: environment-for-tests ## Regenerate docs/options.md, the manual page and parts of other pages
	$(BIN)/python docs/generate.py

# npm fetches the program that draws diagrams, by its checksum; nothing of the site needs a network.
site: environment-for-tests ## Build the documentation site in site/
	command -v npm >/dev/null || tools/apt-install.sh npm
	npm ci --prefix docs/site --ignore-scripts --no-audit --no-fund
	rm -rf site
	$(BIN)/sphinx-build --builder dirhtml --nitpicky --fail-on-warning --keep-going --quiet docs site

# From the commit's time come the times in both files: whoever builds the commit gets the same bytes.
dist: environment-for-tests ## Build wheel and source distribution into dist/, and check them
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) \
	    $(UV) build --quiet --no-build-isolation --python $(BIN)/python
	$(BIN)/twine check --strict dist/*

help: ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 18

# Inexact: keeps the packages that `make test` has installed.
environment: ## Make only .venv, which contains the program
	@tools/install-uv.sh .tools $(UV_VERSION)
	@$(if $(FORMER),$(UV) pip uninstall --quiet slurm-factory)
	@$(UV) sync --quiet --frozen --no-dev --inexact

environment-for-tests:
	@tools/install-uv.sh .tools $(UV_VERSION)
	@$(if $(FORMER),$(UV) pip uninstall --quiet slurm-factory)
	@$(UV) sync --quiet --frozen --group docs
