# Everything starts here. `make demo` and `make test` need nothing but Python 3.11, pip, make and (for test) root on Debian.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install install-dev demo test check format faults bench profile docs shots hub-package lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.runtime ## Make .venv with the `mooring` command

install-dev: $(VENV)/.dev ## The same with everything for tests and checks

$(BIN)/python:
	@echo "Making $(VENV) …"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Mooring needs Python 3.11 or newer")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing the locked dependencies …"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "Installing the locked test tools …"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.runtime ## Run the main job on this machine, with the sandbox as the provider
	@$(BIN)/mooring demo $(ARGS)

test: $(VENV)/.dev ## Run all tests; installs the servers they run against
	@scripts/install-test-deps --only postgres,redis,redmine,chromium,nginx,node,python
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.dev ## Format, lint, types, layers, the catalogue, generated files
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mooring connectors check
	@$(BIN)/mooring connectors lint
	@$(BIN)/python -m pytest tests/docs $(ARGS)

format: $(VENV)/.dev ## Put the code into shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

faults: $(VENV)/.dev ## Kill processes for an hour and more while tokens are renewed, and count what is lost
	@scripts/install-test-deps --only postgres,node
	@MOORING_TEST_KILLS=200 MOORING_TEST_KILL_ACCOUNTS=20 MOORING_TEST_STORM_ROUNDS=20 \
		MOORING_TEST_SQLITE_KILLS=100 MOORING_TEST_POSTGRES_KILLS=50 \
		MOORING_TEST_LIFE_RUNS=200 MOORING_TEST_LIFE_STEPS=100 \
		MOORING_TEST_WEBHOOK_EVENTS=10000 MOORING_TEST_WEBHOOK_KILLS=20 MOORING_TEST_AUDIT_ENTRIES=1000 \
		$(BIN)/python -m pytest tests/faults tests/webhooks/test_crash.py tests/identity/test_audit_chain.py \
		tests/operations/test_keys.py::test_a_rotation_that_is_killed_ten_times_fails_no_read -s $(ARGS)

bench: $(VENV)/.dev ## Measure; prints a table and writes bench/RESULTS.md
	@scripts/install-test-deps --only bench
	@$(BIN)/python -m bench --write $(ARGS)

profile: $(VENV)/.dev ## Profile the hot path under load; prints the list and writes build/profile/
	@scripts/install-test-deps --only bench,postgres
	@$(BIN)/python -m bench.profile $(ARGS)

docs: $(VENV)/.runtime ## Write the generated parts of docs/
	@$(BIN)/python scripts/make-docs

shots: $(VENV)/.dev ## Photograph every state of the Hub and of the dashboard into build/shots/
	@scripts/install-test-deps --only chromium,node
	@$(BIN)/python scripts/make-shots $(ARGS)
	@$(BIN)/python -m tests.browser.gallery_dashboard build/shots/dashboard

hub-package: $(VENV)/.runtime ## Complete packages/hub for npm
	@$(BIN)/python scripts/make-hub-package

lock: ## Write the lock files from pyproject.toml (needs uv)
	@scripts/lock

clean: ## Remove the environment and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
