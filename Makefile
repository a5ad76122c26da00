# Every target does its own set-up; `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
CARGO := cargo
COMPOSE := docker compose -f docker-compose.yml
SECONDS := 60
BORDERS := $(notdir $(wildcard crates/borders/corpus/*))
SECURE := $(COMPOSE) -f deploy/compose/offline.yml -f deploy/compose/secure.yml

.PHONY: help setup build demo test test-fast fuzz bench deny chaos up up-offline up-single up-secure down stack-test screenshots k8s-check check docs clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## What the build needs: installed where that is allowed, else named
	@./deploy/setup.sh

build: setup ## All binaries, into target/debug
	$(CARGO) build --workspace --bins --examples

demo: setup ## Everything on this machine, edits on a page and in the terminal; Ctrl-C ends it with an audit
	$(CARGO) build --package wiki --bin wiki
	./target/debug/wiki demo $(DEMO)

test: build ## Every test, and all they need: Java and Maven too, for Apache Kafka
	@./deploy/setup.sh tests
	$(CARGO) test --workspace --no-fail-fast

# Targets by name, so that the packages keep the features of the whole workspace and nothing is built twice. Left out: the
# sink's tests `postgres` and `writers`, the stories in `tools` and `apache_kafka`, examples in documents. Stories wait
# more than they work: more of them run side by side than there are cores.
test-fast: build ## With cargo alone: unit and property tests, stories on the embedded broker but the longest; 4 minutes
	RUST_TEST_THREADS=$$(($$(getconf _NPROCESSORS_ONLN) + 2)) $(CARGO) test --workspace --no-fail-fast --lib --bins \
		--test board --test json_schema --test total --test claims --test embedded -- --skip long::

fuzz: setup ## Look for bytes that break a border, SECONDS=60 each; needs nightly Rust and cargo-fuzz. BORDERS="frame edit" chooses
	@for border in $(BORDERS); do \
		mkdir -p "fuzz/corpus/$$border" && echo "== $$border" && \
		$(CARGO) +nightly fuzz run --release --sanitizer none "$$border" "fuzz/corpus/$$border" "crates/borders/corpus/$$border" -- \
			-max_total_time=$(SECONDS) -timeout=5 -rss_limit_mb=512 -max_len=65536 || exit 1; \
	done

bench: setup ## What an event costs in memory; with WIKI_RECORDED=FOLDER on recorded events (docs/performance.md)
	$(CARGO) bench --manifest-path bench/Cargo.toml --target-dir target/bench

deny: ## Licences, duplicates and sources of packages; needs cargo-deny. `make check` holds licences and sources too
	$(CARGO) deny --all-features check bans licenses sources

chaos: build ## The long fault run on Apache Kafka, ten seeds; SEEDS="3 4" chooses
	@./deploy/setup.sh tests
	./target/debug/chaos $(SEEDS)

up: ## The compose stack on Wikimedia's live stream: http://localhost:8080
	$(COMPOSE) up -d --build --wait

up-offline: ## The same with a simulator in the stream's place
	$(COMPOSE) -f deploy/compose/offline.yml up -d --build --wait
	@echo "the page: http://localhost:8080; for docker compose commands on this stack: export COMPOSE_FILE=docker-compose.yml:deploy/compose/offline.yml"

up-single: ## The same with one broker, for small machines (and the simulator)
	$(COMPOSE) -f deploy/compose/offline.yml -f deploy/compose/single.yml up -d --build --wait
	@echo "the page: http://localhost:8080; for docker compose commands on this stack: export COMPOSE_FILE=docker-compose.yml:deploy/compose/offline.yml:deploy/compose/single.yml"

up-secure: ## The same with SASL_SSL, a principal a service, and least rights (and the simulator)
	@./deploy/compose/secure.sh secrets
	$(SECURE) up -d --build --wait kafka-1 kafka-2 kafka-3 postgres
	@./deploy/compose/secure.sh rights $(SECURE)
	$(SECURE) run --rm --build migrate
	$(SECURE) up -d --build --wait
	@echo "the page: http://localhost:8080; for docker compose commands on this stack: export COMPOSE_FILE=docker-compose.yml:deploy/compose/offline.yml:deploy/compose/secure.yml"

down: ## The compose stack is taken down, its data too
	$(COMPOSE) -f deploy/compose/offline.yml down --volumes --remove-orphans

stack-test: build ## The compose stack scaled, broken and judged; needs Docker. STACK="moves eager" chooses
	./target/debug/stack $(STACK)

screenshots: build ## The documents' pictures, made from the page itself; needs Chromium
	@./deploy/setup.sh tests
	./target/debug/screenshots docs/images

k8s-check: ## Kubernetes manifests against the schemas of a published package; needs Python with venv
	python3 -m venv target/k8s-check
	target/k8s-check/bin/pip install --quiet kubernetes-validate
	target/k8s-check/bin/kubernetes-validate --strict $(filter-out %/kustomization.yaml,$(wildcard deploy/k8s/base/*.yaml))

check: setup ## Format, lints, stale documents
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- --deny warnings
	$(CARGO) run --quiet --package schema --example json_schema | diff - crates/schema/wikipedia-events.schema.json
	$(CARGO) build --quiet --workspace --bins
	./target/debug/wiki metrics | diff - docs/metrics.md

docs: setup ## The generated documents, written anew
	$(CARGO) run --quiet --package schema --example json_schema > crates/schema/wikipedia-events.schema.json.new
	mv crates/schema/wikipedia-events.schema.json.new crates/schema/wikipedia-events.schema.json
	$(CARGO) build --quiet --workspace --bins
	./target/debug/wiki metrics > docs/metrics.md
	env -i PATH="$$PATH" ./target/debug/wiki commands docs/commands

clean: ## What the build and the demo left behind
	$(CARGO) clean
	rm -rf data
