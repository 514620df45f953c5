# Sluice's build. `make` alone lists what there is to do.
#
# A fresh machine needs Go, a C compiler and Python 3 with venv or npm; `make
# doctor` names what is missing and the command that installs it. Everything
# else is fetched once, pinned, into the user's cache.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# A checkout owned by somebody else (CI, containers) has no readable version.
export GOFLAGS := $(filter-out -buildvcs=%,$(GOFLAGS)) -buildvcs=false

# ONNX Runtime's official builds send telemetry otherwise.
export ORT_DISABLE_TELEMETRY := 1

# What a caller may change: make test PKG=./internal/inference/serve
PKG ?= ./...
FUZZTIME ?= 10s
COUNT ?= 1

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

##@ Use

.PHONY: run
run: build ## build and start the whole platform: HTTP :8000, gRPC :8001, operations :8002
	exec ./bin/api

.PHONY: build
build: doctor ## build bin/api, bin/worker and bin/sluice
	@mkdir -p bin
	go build -trimpath -o bin/ ./cmd/...

.PHONY: release
release: doctor ## the same with the profile of `make pgo`: 5 % less CPU for a small request, and minutes more to build
	@mkdir -p bin
	go build -trimpath -pgo=cmd/api/release.pgo -o bin/ ./cmd/...

.PHONY: doctor
doctor: ## check that this machine can build, and name what is missing
	@tools/doctor.sh go cc

.PHONY: clean
clean: ## remove what was built here (the user's cache stays)
	rm -rf bin coverage.out loadtest/results

##@ Check

.PHONY: test
test: doctor ## all tests that need no server
	go test -count=$(COUNT) $(PKG)

.PHONY: race
race: doctor ## the same under the race detector
	go test -race -count=$(COUNT) $(PKG)

.PHONY: lint
lint: doctor ## golangci-lint, pinned and built here (the first time takes minutes)
	@lint=$$(tools/tool.sh golangci golangci-lint); "$$lint" run $(PKG)

.PHONY: fmt
fmt: doctor ## format every file
	@lint=$$(tools/tool.sh golangci golangci-lint); "$$lint" fmt

.PHONY: fuzz
fuzz: doctor ## every fuzz target for FUZZTIME (10s)
	@tools/fuzz.sh $(FUZZTIME)

.PHONY: conformance
conformance: build ## the public clients of the protocol against the real server
	@tools/doctor.sh python
	@loadtest/conformance/run.sh

.PHONY: vuln
vuln: doctor ## known vulnerabilities in what is used; needs the Go vulnerability database
	@vuln=$$(tools/tool.sh govulncheck govulncheck); "$$vuln" $(PKG)

.PHONY: ci
ci: ## everything that CI does
	@.ci/run

##@ Services

# Real servers for tests, on loopback ports of their own; see deploy/README.md.
# The first start builds and fetches them, which takes minutes.
bin/services: $(wildcard tools/services/*.go tools/services/cassandra/*) go.mod
	@mkdir -p bin
	go build -trimpath -o $@ ./tools/services

.PHONY: services
services: doctor bin/services ## start NATS x3, MinIO, Cassandra and ClickHouse for tests; `bin/services` says what else it can do
	@bin/services start
	@bin/services env

.PHONY: services-stop
services-stop: bin/services ## end them and remove their data
	@bin/services stop

# One package at a time: some of them stop and freeze servers.
.PHONY: test-services
test-services: doctor bin/services ## the contract suites against real servers, started and ended where needed
	@files=$$(find . -name '*services_test.go' -not -path '*/testdata/*'); \
	[ -n "$$files" ] || { echo 'there is no *services_test.go: nothing would be tested' >&2; exit 1; }; \
	packages=$$(dirname $$files | sort -u); \
	names=$$(sed -n 's/^func \(Test[A-Za-z0-9_]*\)(.*/\1/p' $$files | sort -u | paste -sd '|' -); \
	RAPID_CHECKS=$${RAPID_CHECKS:-25} bin/services with go test -tags services -p 1 -count=1 -timeout 15m -run "^($$names)\$$" $$packages

.PHONY: test-office
test-office: doctor ## LibreOffice opens our workbooks; not a part of CI, since it is large to install (Debian: libreoffice-calc-nogui)
	@command -v soffice >/dev/null || { echo 'soffice is not installed: apt-get install --no-install-recommends libreoffice-calc-nogui' >&2; exit 1; }
	go test -tags office -count=1 -run LibreOffice ./internal/batch/encode/xlsx

##@ Hurt

.PHONY: chaos
chaos: doctor ## kill, cut off and fill up the real programs for about an hour; nothing may be lost
	go run ./loadtest/crash -long

.PHONY: chaos-short
chaos-short: doctor ## the same in about five minutes, for CI; needs root, to mount a small disk
	go run ./loadtest/crash

.PHONY: chaos-services
chaos-services: doctor bin/services ## cut the program off from real servers, started and ended where needed
	bin/services with go run ./loadtest/crash -only services

.PHONY: chaos-selftest
chaos-selftest: doctor ## build defects into the program, each of which the killings must find
	go run ./loadtest/crash -selftest

##@ Measure

.PHONY: bench
bench: doctor ## every benchmark, then one line for each goal
	go test -run '^$$' -bench . -benchmem $(PKG)
	go run ./loadtest/bench

.PHONY: bench-short
bench-short: doctor ## one short round of every benchmark
	go test -run '^$$' -bench . -benchmem -benchtime 10ms $(PKG)
	go run ./loadtest/bench -short

.PHONY: scenarios
scenarios: doctor ## low load to tenfold overload, noisy tenants, restarts, ...: what must hold under each; reports in loadtest/results
	go run ./loadtest/drive

.PHONY: pgo
pgo: doctor ## measure again what is hot under the benchmarks, for `make release`; commit the file
	@profiles=$$(mktemp -d); trap 'rm -rf "$$profiles"' EXIT; \
	go run ./loadtest/bench -only rows,noop,overload -profile "$$profiles" && \
	go tool pprof -proto "$$profiles"/*.pprof >cmd/api/release.pgo

.PHONY: bench-peers
bench-peers: doctor ## Sluice beside MLServer, KServe, BentoML, Ray Serve and Triton; writes the tables of docs/PERFORMANCE.md; PEERS= takes flags, such as -only
	@tools/doctor.sh python
	go run ./loadtest/peers -write docs/PERFORMANCE.md $(PEERS)

.PHONY: soak
soak: doctor ## load and unload models under traffic for a long while; watch memory
	go run ./loadtest/soak

##@ Models

.PHONY: models
models: ## train the sample models again (changes files under models/)
	@tools/doctor.sh python
	@python=$$(tools/venv.sh models/_train/requirements.txt); \
	"$$python" -B models/_train/all.py; \
	"$$python" -B loadtest/models/_train/build.py; \
	"$$python" -B models/_train/verify.py

.PHONY: models-verify
models-verify: ## check the sample models: checksums, structure, expected answers
	@tools/doctor.sh python
	@python=$$(tools/venv.sh models/_train/requirements.txt ml_dtypes numpy onnx onnxruntime PyYAML); \
	"$$python" -B models/_train/verify.py
