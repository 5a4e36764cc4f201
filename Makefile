# Counterfoil's commands. Each does its own set-up: the environment is .venv, from the hash-locked release/locks/dev.txt.
# `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Containers often set it. A process that compiles all that it imports needs three times as long to start.
unexport PYTHONDONTWRITEBYTECODE

# The Python that makes .venv: 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What a person needs who does not change Counterfoil, in the order of use.
FOR_USERS := demo plugin image cluster cluster-down docs

.PHONY: help
help: ## list the commands
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{names[++n] = $$1; lines[$$1] = sprintf("  make %-14s %s", $$1, $$2)} \
	  END {first = split("$(FOR_USERS)", users, " "); print "To see it and to install it:"; \
	    for (i = 1; i <= first; i++) {print lines[users[i]]; delete lines[users[i]]} print "\nTo change it:"; \
	    for (i = 1; i <= n; i++) if (names[i] in lines) print lines[names[i]]}' $(MAKEFILE_LIST)

# It says everything on stderr: `eval "$(make -s cluster)"` reads the standard output (-s: nor the folder that make
# names when another make runs it).
$(VENV)/.installed: release/locks/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Counterfoil needs Python 3.11 or newer; this is %s. Say make PYTHON=..." % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo '[setup] making $(VENV) from release/locks/dev.txt' >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@sed -n '/^uv==/,/^[a-z].*==/{/^uv==/p;/^    --hash/p}' release/locks/dev.txt | sed '$$ s/ *\\$$//' > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(VENV)/uv.txt
	@$(BIN)/uv pip sync --python $(BIN)/python --require-hashes release/locks/dev.txt
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed ## make the environment (every other target runs it first)

# The lock of traces has only what an image with traces has in addition to the other.
.PHONY: lock
lock: setup ## renew the lock files from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --group dev -o release/locks/dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -c release/locks/dev.txt -o release/locks/runtime.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --extra otel -c release/locks/dev.txt -o $(VENV)/traces.txt
	awk 'FNR == NR { if (/^[a-z0-9]/) known[$$1]; next } /^[a-z0-9]/ { is_new = !($$1 in known) } is_new' release/locks/runtime.txt $(VENV)/traces.txt > release/locks/traces.txt
	echo 'hatchling>=1.29' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header - -c release/locks/dev.txt -o release/locks/build.txt
	echo 'pip-audit>=2.10' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header - -o release/locks/audit.txt
	echo 'cosmic-ray>=8.7' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header - -c release/locks/dev.txt -o release/locks/mutation.txt

# A registry without advisories answers that it does not know a package: --strict makes that a failure.
.PHONY: audit
audit: setup ## compare the locks with the public advisories (asks PyPI for each locked package; not part of make test)
	@$(BIN)/uv venv --quiet --allow-existing $(VENV)/audit
	@$(BIN)/uv pip sync --quiet --python $(VENV)/audit/bin/python --require-hashes release/locks/audit.txt
	@for lock in runtime traces build dev mutation; do echo "[audit] release/locks/$$lock.txt"; \
	  $(VENV)/audit/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner=off -r release/locks/$$lock.txt; done

# Cosmic Ray and what it needs lie apart, in the versions that the rest of the environment has.
.PHONY: mutation
mutation: setup ## how many changes of the product its unit tests notice (MODULE='...', SAMPLE=N, SEED=S; long for all)
	@$(BIN)/uv pip install --quiet --require-hashes --no-deps --target $(VENV)/mutation -r release/locks/mutation.txt
	@$(BIN)/python -m verification.mutation $(MODULE) $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)) $(if $(KEEP_KILLED),--keep-killed) $(if $(ALL_TESTS),--all-tests)

.PHONY: chart
chart: setup ## renew the CRDs, the chart's copy of them, its schema and README, and the reference of the CRDs
	@$(BIN)/python docs/tools/generate_crds.py && $(BIN)/python docs/tools/generate_artifacthub.py && $(BIN)/python docs/tools/generate_chart.py && $(BIN)/python docs/tools/generate_reference.py

.PHONY: cluster cluster-down
cluster: setup ## start a local control plane with the CRDs, detached; prints export KUBECONFIG=... (CLUSTER=kind: with kind)
	@$(BIN)/python -m sandbox.controlplane.cluster up

cluster-down: setup ## end the local control plane
	@$(BIN)/python -m sandbox.controlplane.cluster down

# mypy takes as long as all else, and one core.
.PHONY: lint lint-types lint-text
lint: setup ## ruff, mypy --strict, the import rules, spelling, language, the workflows and the docs build
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=line lint-types lint-text

lint-types: setup
	@echo '[lint] mypy'; $(BIN)/mypy

# All pages are built again: a build of only the changed ones does not see what they broke in the others.
lint-text: setup
	@echo '[lint] ruff'; $(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@echo '[lint] import rules'; $(BIN)/lint-imports --no-cache | tail -n 2
	@echo '[lint] spelling'; $(BIN)/codespell
	@echo '[lint] language'; $(BIN)/python docs/tools/check_language.py
	@echo '[lint] workflows'; $(BIN)/zizmor --offline --pedantic --quiet .github/workflows
	@echo '[lint] docs'; $(BIN)/sphinx-build -q -E -a -W --keep-going -b html docs docs/_build && $(BIN)/python docs/tools/check_site.py docs/_build

.PHONY: docs
docs: setup ## build the docs as web pages into docs/_build, with a search that needs no server
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build && $(BIN)/python docs/tools/check_site.py docs/_build
	@echo '$(CURDIR)/docs/_build/index.html'

# What each process of unit tests collects; all take about the same time. A process of pytest-xdist would collect all
# tests. The first part has each folder that no other part has.
UNIT_APART := $(addprefix tests/unit/,counterfoil controller webhook)
UNIT_PARTS := 'tests/unit $(UNIT_APART:%=--ignore=%)' \
  'tests/unit/counterfoil --ignore=tests/unit/counterfoil/archives' \
  'tests/unit/controller' \
  'tests/unit/webhook tests/unit/counterfoil/archives'

# Number of processes for the unit tests, and for those on a control plane: each has its own, and waits half of the time.
WORKERS ?= 4
CLUSTER_WORKERS ?= 6

# tests/conftest.py lets the longest files begin. xdist's own order begins with the files that have most tests.
.PHONY: test test-unit test-cluster test-browser test-e2e
test-unit: setup ## the fast tests: no cluster
	@echo '[test] unit'; printf '%s\n' $(UNIT_PARTS) | xargs -P $(WORKERS) -I{} \
	  bash -c 'report=$$($(BIN)/pytest -q {} 2>&1); status=$$?; printf "%s\n" "$$report"; exit $$status'

test-cluster: setup ## the tests on a real API server, with kills and faults (downloaded or built on the first run, with progress)
	@$(BIN)/python -m sandbox.controlplane kube-apiserver etcd kubectl rclone versitygw helm kubeconform kube-score kstatus promtool actionlint
	@$(BIN)/python -m sandbox.servers opencmis azurite
	@$(BIN)/python -m sandbox.packages.debian spin gcc
	@echo '[test] cluster'; $(BIN)/pytest -q -n $(CLUSTER_WORKERS) --dist loadfile --no-loadscope-reorder --durations=20 tests/chaos tests/security tests/cluster

test-browser: setup ## what a person sees, in a real Chromium (Debian's, installed if it is missing and you are root)
	@$(BIN)/python -m sandbox.packages.debian chromium
	@$(BIN)/python -m sandbox.controlplane kube-apiserver etcd kubectl
	@echo '[test] browser'; $(BIN)/pytest -q -n 2 --dist loadfile tests/e2e/test_browser_*.py

# Only if everything is installed already: `make e2e` builds and installs it.
test-e2e: setup ## the node test and a release, if `make e2e` has run before; otherwise prints the reason
	@reason=$$($(BIN)/python -m sandbox.node why-not); \
	  if [ -z "$$reason" ]; then echo '[test] e2e'; $(BIN)/pytest -q --durations=20 tests/e2e/test_node*.py tests/e2e/test_release.py; else echo "[test] e2e: $$reason"; fi

test: lint test-unit test-cluster test-browser test-e2e ## everything that has to pass

# kind has no metrics-server, so nothing is scaled by load there.
.PHONY: e2e
e2e: setup ## image and chart on a whole node, through a release's life (root; CLUSTER=kind: with kind and Docker)
	@$(BIN)/python -m sandbox.node prepare
	@echo '[test] e2e'; $(BIN)/pytest -v --capture=no tests/e2e/test_node$(if $(CLUSTER),.py -k 'not load_brings',*.py)

.PHONY: matrix
matrix: setup ## the tests of an API server and of the chart with other versions of Kubernetes and Helm, built on the first run; writes docs/support.md (VERSION=helm-3: this one only)
	@$(BIN)/python -m sandbox.controlplane etcd kubectl helm kubeconform kstatus rclone kube-score
	@$(BIN)/python -m verification.matrix $(VERSION)

# Needs the Python alone: no browser, no docs and no type checkers. A separate environment brings pip.
.PHONY: plugin
plugin: ## build the kubectl plugin, one file, into dist/ (SOURCE_DATE_EPOCH: the date of its files)
	@test -x $(VENV)/plugin/bin/python || $(PYTHON) -m venv $(VENV)/plugin
	@$(VENV)/plugin/bin/python -m release.plugin

.PHONY: image
image: setup ## build the image and its bill of materials into dist/ (TRIAL=1: the trial's too; TRACES, BASE, MUTABLE_BASE, IMAGE, TOOL, OPTIONS: see release/image/build.py)
	@TRIAL='$(TRIAL)' TRACES='$(TRACES)' BASE='$(BASE)' MUTABLE_BASE='$(MUTABLE_BASE)' IMAGE='$(IMAGE)' TOOL='$(TOOL)' OPTIONS='$(OPTIONS)' $(BIN)/python -m release.image.build

.PHONY: release version
release: setup ## build everything that a release has into dist/release/ (VERSION=1.2.3; REPOSITORY, BASE, COSIGN_KEY)
	@VERSION='$(VERSION)' REPOSITORY='$(REPOSITORY)' BASE='$(BASE)' MUTABLE_BASE='$(MUTABLE_BASE)' OPTIONS='$(OPTIONS)' $(BIN)/python -m release

version: setup ## set the version everywhere and write its section of the changelog (VERSION=1.2.3)
	@VERSION='$(VERSION)' $(BIN)/python -m release set
	@$(BIN)/python docs/tools/generate_artifacthub.py && $(BIN)/python docs/tools/generate_chart.py

.PHONY: demo
demo: setup ## the main job on this machine (KEEP=1: leave it running; VERBOSE=1: all details; ARCHIVE=webdav|sftp|cmis|s3|http|azblob|filesystem)
	@KEEP=$(KEEP) VERBOSE=$(VERBOSE) ARCHIVE=$(ARCHIVE) $(BIN)/python -m sandbox.demo

.PHONY: model
model: setup ## check the formal model at large bounds (make test has small bounds)
	@$(BIN)/python -m sandbox.packages.debian spin gcc
	@$(BIN)/python -m verification.formal

# Number of inputs of each fuzz target.
INPUTS ?= 1000000

.PHONY: fuzz
fuzz: setup ## fuzz the readers of others' bytes (hours; continues the corpus; make test has a short run)
	@$(BIN)/python -m verification.fuzz --inputs $(INPUTS)

.PHONY: chaos
chaos: setup ## the fault campaign: rounds of random faults until FAULTS of them struck, WORKERS side by side; continues where it was stopped (SEED=1, FAULTS=1000, WORKERS=1)
	@$(BIN)/python -m sandbox.controlplane kube-apiserver etcd kubectl rclone
	@$(BIN)/python -m verification.chaos run --seed $(or $(SEED),1) --faults $(or $(FAULTS),1000) --workers $(or $(WORKERS),1)

.PHONY: soak
soak: setup ## the soak test: a steady load and faults for MINUTES, in which no process grows and no event is lost (SEED=1, MINUTES=60)
	@$(BIN)/python -m sandbox.controlplane kube-apiserver etcd kubectl rclone
	@$(BIN)/python -m verification.chaos soak --seed $(or $(SEED),1) --minutes $(or $(MINUTES),60)

.PHONY: bench
bench: setup ## speed, as ratios to the raw limit in the same run (thirty minutes; wants a quiet machine)
	@$(BIN)/python -m sandbox.controlplane kube-apiserver etcd kubectl rclone
	@$(BIN)/python -m verification.bench --output verification/bench/RESULTS.md
	@$(BIN)/python docs/tools/generate_charts.py

# They are among the tests of `make test`, too.
.PHONY: bench-smoke
bench-smoke: setup ## the benches at a tiny size: they check counts of requests and memory, no times
	@$(BIN)/python -m sandbox.controlplane kube-apiserver etcd kubectl
	@$(BIN)/pytest -q tests/unit/bench tests/cluster/bench

.PHONY: bench-peers
bench-peers: setup ## the controller beside a small reconciler in Go that does the same work (builds it; wants a quiet machine)
	@$(BIN)/python -m sandbox.controlplane kube-apiserver etcd kubectl
	@$(BIN)/python -m verification.bench p
