# One way in for people and for CI. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

target := $(abspath $(or $(CARGO_TARGET_DIR),target))
cache := $(or $(VOLWRIGHT_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/volwright)
triple := $(shell rustc -vV | sed -n 's/^host: //p')
# Naming the triple keeps the flag for static linking away from build scripts.
sidecars := $(target)/$(triple)/release
names := $(basename $(notdir $(wildcard src/bin/*.rs)))
play := $(target)/cluster
deny_version := 0.20.2
deny := $(or $(shell command -v cargo-deny),$(cache)/tools/bin/cargo-deny)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

.PHONY: test
test: fmt deny clippy binaries ## everything that must hold before a change is taken
	tests/cluster/build.sh $(if $(TEST_KUBECONFIG),small) >/dev/null
	SIDECARS=$(sidecars) cargo test --workspace --locked

.PHONY: fmt
fmt: ## formatting
	cargo fmt --all --check

.PHONY: clippy
clippy: ## lints, warnings as errors
	cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: deny
deny: $(deny) ## licences, bans, sources; advisories where their database answers
	$(deny) --locked check licenses bans sources
	@if timeout 120 $(deny) fetch db; then \
		$(deny) --locked check --disable-fetch advisories; echo "advisories: checked"; \
	else \
		echo "advisories: NOT checked, their database cannot be reached from here"; \
	fi

$(cache)/tools/bin/cargo-deny:
	CARGO_TARGET_DIR=$(target)/tools cargo install cargo-deny@$(deny_version) --locked --root $(cache)/tools
	rm -rf $(target)/tools

.PHONY: binaries
binaries: ## the static release binaries, one for each sidecar
	RUSTFLAGS="$${RUSTFLAGS:-} -C target-feature=+crt-static" \
		cargo build --release --locked --target $(triple) --bins

.PHONY: images
images: binaries ## an OCI archive for each sidecar, no container runtime needed; prints their paths
	@for name in $(names); do manifests/image.sh $(sidecars)/$$name $(target)/$$name.oci.tar; done

# A dev build: the release build with its one codegen unit takes several times
# as long, for a demonstration of a second.
.PHONY: demo
demo: ## 20 claims become volumes and go away again, a kubelet gets to know the driver; needs only Rust
	@cargo build --locked --bin csi-provisioner --bin csi-node-driver-registrar --example demo
	@$(target)/debug/examples/demo

.PHONY: cluster
cluster: ## a real control plane that stays up until Ctrl-C (needs Go)
	@mkdir -p $(play)
	@bin=$$(tests/cluster/build.sh); exec $$bin/up -interactive -dir $(play)

.PHONY: dev
dev: ## csi-provisioner out of cluster against `make cluster`, with an in-memory driver
	@CARGO_TARGET_DIR=$(target) tests/cluster/dev.sh -v=4

.PHONY: parity
parity: binaries ## the scenarios of tests/parity on upstream's binary and on ours, line by line
	tests/cluster/build.sh >/dev/null
	PARITY=all SIDECARS=$(sidecars) cargo test --workspace --locked --test real -- parity

.PHONY: bench
bench: binaries ## what a decision, a record and a list cost, and the sidecars of a node; then figures beside upstream's
	cargo bench --locked --bench decide --bench ledger --bench decode
	tests/cluster/build.sh >/dev/null
	SIDECARS=$(sidecars) cargo bench --locked --bench node
	SIDECARS=$(sidecars) cargo test --locked --test real -- figures

# Half of the kills without election, half with it. SEED draws other moments.
.PHONY: kill-test
KILLS ?= 500
kill-test: binaries ## KILLS=500 kill -9 under load; what is forgotten, beside upstream
	tests/cluster/build.sh >/dev/null
	SIDECARS=$(sidecars) KILLS=$(KILLS) cargo test --locked --test real -- "kill test"

.PHONY: chaos
chaos: ## replicas or one process, claims that come and go, and whatever may break, SEEDS=n times
	CHAOS_SEEDS=$(or $(SEEDS),1000) cargo test --locked --test crash -- --nocapture whatever_breaks

# What exceeds its share of `make test`: more of the same, on the same machine.
.PHONY: test-all
test-all: test ## `make test`, then the real cluster again and again, and 100000 foreign objects
	for round in 1 2 3; do SIDECARS=$(sidecars) cargo test --locked --test real; done
	CRASH_FULL=1 CHAOS_SEEDS=300 cargo test --locked --test crash
	MODEL_DEPTH=12 cargo test --release --locked --lib -- ledger::tests::model
	KILLS=100 SIDECARS=$(sidecars) cargo test --locked --test real -- "kill test"
	FOREIGN=100000 SIDECARS=$(sidecars) cargo test --locked --test real -- figures
