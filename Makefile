# Everything starts here. `make demo` and `make test` need nothing but Python 3.11, pip, make and (for test) root on Debian.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install install-dev demo test check format faults cluster attack bench profile docs site shots hub-package lock clean sbom audit

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

$(VENV)/audit/.ready: requirements-audit.lock | $(BIN)/python
	@echo "Installing the locked tools that look at dependencies …"
	@rm -rf $(VENV)/audit
	@$(BIN)/python -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-audit.lock
	@touch $@

demo: $(VENV)/.runtime ## Run the main job on this machine, with the sandbox as the provider
	@$(BIN)/mooring demo $(ARGS)

test: $(VENV)/.dev ## Run all tests; installs the servers they run against
	@scripts/install-test-deps --only postgres,redis,redmine,chromium,nginx,netns,node,python,oauth
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.dev ## Format, lint, types, layers, the catalogue, generated files
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mooring connectors check
	@$(BIN)/mooring connectors lint
	@$(BIN)/python scripts/check-dependencies
	@$(MAKE) --no-print-directory sbom
	@$(BIN)/python -m pytest tests/docs $(ARGS)

sbom: $(VENV)/audit/.ready ## Write what a hub runs with, hashes included, to build/sbom.json (CycloneDX)
	@mkdir -p build
	@PYTHONWARNINGS=ignore $(VENV)/audit/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
		--of JSON -o build/sbom.json requirements.lock
	@echo "build/sbom.json: $$(grep -c '"bom-ref": "requirements-' build/sbom.json) packages"

audit: $(VENV)/audit/.ready ## Ask for known vulnerabilities of the locked packages; says so when nobody can be asked
	@$(VENV)/audit/bin/python scripts/check-dependencies --audit

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

cluster: $(VENV)/.dev ## Cut, kill, restart and upgrade hosts in network namespaces for long, and count what is lost (root)
	@scripts/install-test-deps --only postgres,redis,netns
	@MOORING_TEST_CLUSTER_ROUNDS=20 MOORING_TEST_CLUSTER_ACCOUNTS=20 MOORING_TEST_CLUSTER_CALLERS=200 \
		MOORING_TEST_CLUSTER_CUTS=5 MOORING_TEST_CLUSTER_LONG_CUT_SECONDS=75 MOORING_TEST_CLUSTER_KILLS=10 \
		MOORING_TEST_CLUSTER_RESTARTS=20 MOORING_TEST_UPGRADE_CALLERS=8 \
		MOORING_TEST_MIGRATION_KILLS=10 MOORING_TEST_MIGRATION_ROWS=500 \
		$(BIN)/python -m pytest tests/cluster tests/operations/test_migrations.py -s $(ARGS)

attack: $(VENV)/.dev ## Attack a hub on this machine for two hours, and print what came of it
	@scripts/install-test-deps --only postgres
	@mkdir -p build && rm -f build/attack.txt
	@MOORING_ATTACK_REPORT=$(CURDIR)/build/attack.txt MOORING_ATTACK_EXAMPLES=400 MOORING_ATTACK_CASES=25000 \
		MOORING_ATTACK_REQUESTS=2400 MOORING_ATTACK_HALF_OPEN=500 MOORING_ATTACK_HALF_OPEN_SECONDS=60 \
		MOORING_ATTACK_CALLS=180 MOORING_ATTACK_TENANTS=4 MOORING_ATTACK_BOMB_MB=512 MOORING_ATTACK_FUZZ=20000 \
		$(BIN)/python -m pytest tests/attack -s $(ARGS)
	@MOORING_ATTACK_REPORT=$(CURDIR)/build/attack.txt $(BIN)/python -m tests.attack.fuzz.run $${MOORING_ATTACK_SECONDS:-180}
	@cat build/attack.txt

bench: $(VENV)/.dev ## Measure; prints a table and writes bench/RESULTS.md
	@scripts/install-test-deps --only bench
	@$(BIN)/python -m bench --write $(ARGS)

profile: $(VENV)/.dev ## Profile the hot path under load; prints the list and writes build/profile/
	@scripts/install-test-deps --only bench,postgres
	@$(BIN)/python -m bench.profile $(ARGS)

docs: $(VENV)/.runtime ## Write the generated parts of docs/
	@$(BIN)/python scripts/make-docs

site: $(VENV)/.dev ## Build the documentation site into build/site
	@$(BIN)/python scripts/make-site

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
