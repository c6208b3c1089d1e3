# Two commands are enough: `make run` and `make test`. Both set up everything they need.
.DEFAULT_GOAL := help
.PHONY: help run demo test test-slow test-engine test-api check lint types imports format proto proto-check lock bench configuration openapi examples screenshots vendor manifests clean

ARGS ?=
PYTEST ?= .venv/bin/python -m pytest
WORKERS ?= 2
# One process and one thread: with the default executor the worker's ring buffer stalls for seconds on two cores.
VLLM_ON_CPU = env VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 VLLM_ENABLE_V1_MULTIPROCESSING=0 \
	.venv-vllm/bin/vllm serve .venv-vllm/tiny --host 127.0.0.1 --port {port} --served-model-name tiny --enforce-eager \
	--dtype float32 --distributed-executor-backend uni --max-model-len 2048 --block-size 32 --kv-cache-memory-bytes 67108864

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## set up, then run everything on this host: make run ARGS="--port 9000"
	@./scripts/setup.sh server
	@exec .venv/bin/python -m control_plane up $(ARGS)

demo: ## a small fleet without a GPU: recordings of H200s, replayed; then look at http://localhost:8010/dashboard
	@./scripts/setup.sh server
	@exec .venv/bin/python scripts/demo.py $(ARGS)

test: ## set up, then run the fast tests
	@./scripts/setup.sh dev
	@$(PYTEST) -q -n $(WORKERS) -m "not slow" $(ARGS)

test-slow: ## the tests that take longer
	@./scripts/setup.sh dev
	@$(PYTEST) -q -n $(WORKERS) -m slow $(ARGS)

test-engine: ## the tests with a real vLLM on the CPU (2.4 GB; or set OPTIINFRA_TEST_VLLM to a command that serves on {port})
	@./scripts/setup.sh dev
	@[ -n "$$OPTIINFRA_TEST_VLLM" ] || ./scripts/setup_vllm.sh
	@[ -n "$$OPTIINFRA_TEST_VLLM" ] || export OPTIINFRA_TEST_VLLM='$(VLLM_ON_CPU)'; $(PYTEST) -q -m engine $(ARGS)

test-api: .venv-fuzz/bin/python ## whatever can be sent to the API, by schemathesis (20,000 questions, 15 minutes)
	@./scripts/setup.sh dev
	@OPTIINFRA_TEST_SCHEMATHESIS=$(CURDIR)/.venv-fuzz/bin/st $(PYTEST) -q -s tests/integration/test_api_schemathesis.py $(ARGS)

check: lint types imports proto-check test ## what CI runs

lint: ## ruff
	@./scripts/setup.sh dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

types: ## mypy --strict
	@./scripts/setup.sh dev
	@.venv/bin/mypy node_agent control_plane migrations resource_agent

imports: ## who may import whom
	@./scripts/setup.sh dev
	@.venv/bin/lint-imports

format: ## put every file into shape
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

.venv-gen/bin/python: requirements/gen.lock
	@python3 -m venv .venv-gen
	@.venv-gen/bin/python -m pip install --quiet --require-hashes -r requirements/gen.lock
	@touch $@

.venv-fuzz/bin/python: requirements/fuzz.lock
	@python3 -m venv .venv-fuzz
	@.venv-fuzz/bin/python -m pip install --quiet --require-hashes -r requirements/fuzz.lock
	@touch $@

.venv-bench/bin/python: requirements/bench.lock
	@python3 -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --require-hashes -r requirements/bench.lock
	@touch $@

.venv-manifests/bin/python: requirements/manifests.lock
	@python3 -m venv .venv-manifests
	@.venv-manifests/bin/python -m pip install --quiet --require-hashes -r requirements/manifests.lock
	@touch $@

manifests: .venv-manifests/bin/python ## check deploy/ against the schemas of the last six Kubernetes releases
	@.venv-manifests/bin/python scripts/check_manifests.py

proto: .venv-gen/bin/python ## regenerate what derives from proto/
	@.venv-gen/bin/python proto/generate.py

proto-check: .venv-gen/bin/python ## is the generated code up to date
	@.venv-gen/bin/python proto/generate.py --check

lock: ## resolve the locks again (needs uv)
	@for extra in agent server dev; do uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-annotate --no-emit-index-url --extra $$extra pyproject.toml requirements/build.in \
	    -o requirements/$$extra.lock; done
	@for extra in gen bench fuzz manifests npm; do uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-annotate --no-emit-index-url --extra $$extra pyproject.toml -o requirements/$$extra.lock; done

configuration: ## rewrite docs/configuration.md from the settings
	@.venv/bin/python scripts/write_configuration.py

openapi: ## rewrite what derives from the API: golden OpenAPI document, docs/API.md, the Python client's methods
	@.venv/bin/python -m tests.golden.write
	@.venv/bin/python scripts/write_client.py
	@PYTHONPATH=.:proto/gen .venv/bin/python scripts/write_api.py

examples: ## take the API's examples from a running server: make examples ARGS=http://127.0.0.1:8003
	@.venv/bin/python scripts/capture_examples.py $(ARGS)

screenshots: ## take the pictures of the dashboard again (needs Chromium)
	@./scripts/setup.sh dev
	@.venv/bin/python scripts/screenshots.py $(ARGS)

vendor: ## fetch the dashboard's libraries, as they are pinned, if they are not there
	@python3 scripts/vendor.py $(ARGS)

bench: ## measure, and write docs/benchmarks.md
	@./scripts/setup.sh dev
	@.venv/bin/python -m benchmarks

clean: ## remove environments and caches (no data)
	@rm -rf .venv .venv-gen .venv-bench .venv-manifests .venv-fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
