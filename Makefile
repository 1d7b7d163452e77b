# Caly's make targets. "make help" lists them.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)
DATE ?= $(shell git log -1 --format=%cI 2>/dev/null)
BUILDINFO := github.com/caly-dev/caly/internal/buildinfo
IMAGE ?= localhost/caly:dev
TOOLS := test/cluster/build.sh
export CGO_ENABLED ?= 0

##@ General
.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Set everything up on a local cluster and run the main job end to end
	@test/demo/demo.sh

.PHONY: demo-down
demo-down: ## Remove all that the demo made
	@test/demo/down.sh

##@ Development
.PHONY: build
build: ## Build bin/caly and bin/caly-upload
	@echo "building bin/caly and bin/caly-upload"
	@go build -trimpath -ldflags "-s -w -X main.version=$(VERSION) -X $(BUILDINFO).commit=$(COMMIT) -X $(BUILDINFO).date=$(DATE)" -o bin/ ./cmd/caly ./cmd/caly-upload

.PHONY: image
image: build ## Write the OCI image to dist/caly.tar, without Docker
	@mkdir -p dist
	@go run -C hack/image . --binary $(CURDIR)/bin/caly --also $(CURDIR)/bin/caly-upload --tag $(IMAGE) --out $(CURDIR)/dist/caly.tar \
		--license $(CURDIR)/LICENSE --license $(CURDIR)/THIRD_PARTY_NOTICES
	@echo "wrote dist/caly.tar ($(IMAGE))"

.PHONY: generate
generate: ## Generate CRDs, deepcopy, apply configurations, RBAC and THIRD_PARTY_NOTICES
	@hack/generate.sh

.PHONY: check-generated
check-generated: ## Fail when what is generated is stale
	@hack/check-generated.sh

.PHONY: fmt
fmt: ## Format the code: gofmt, a line for each key of a literal, lines up to 120 columns
	@hack/format.sh

.PHONY: lint
lint: ## Check format, vet, lint, generated files and the chart
	@hack/lint.sh

.PHONY: shape
shape: ## Print figures of the code's form: long lines, long functions, missing comments
	@go run ./hack/shape

##@ Test
.PHONY: deps
deps: ## Install what the tests need from Debian's packages, and build the test servers
	@hack/deps.sh

.PHONY: test
test: deps ## Install what is needed and run every test
	@hack/test.sh

.PHONY: cover
cover: deps ## Print how much of the critical paths the tests cover; fail under 95 % (some minutes)
	@hack/cover.sh $(COVER)

.PHONY: test-interop
test-interop: ## Call and be called by other WebSocket libraries, which this installs: ws for Node.js, websockets for Python
	@test/interop/run.sh

.PHONY: test-stores
test-stores: ## Upload to another S3 server, which this builds: SeaweedFS
	@test/interop/stores.sh

.PHONY: test-load
test-load: deps ## Run the tests of audio streams in full size: 1,000 calls, a killed data plane, 30 minutes of churn
	@test/load.sh

.PHONY: mutate
mutate: deps ## Make a list of faults in a copy, one at a time, and report those that no test notices (an hour); MUTATE="--area store"
	@bin=$$($(TOOLS) helm); KUBEBUILDER_ASSETS=$$bin PATH=$$bin:$$PATH go run ./hack/mutate $(MUTATE)

.PHONY: e2e
e2e: ## Run the end-to-end suite on the local cluster (root)
	@test/e2e/run.sh

.PHONY: drill
drill: ## Induce faults on the local cluster and check that each fires its alert and no other (root)
	@test/e2e/run.sh drill

.PHONY: cluster-up
cluster-up: ## Bring up the local cluster
	@$(TOOLS) all && test/cluster/cluster.sh up

.PHONY: cluster-down
cluster-down: ## Remove the local cluster
	@test/cluster/cluster.sh down

##@ Measure
.PHONY: bench-upload
bench-upload: build ## Compare caly upload with rclone copyurl
	@test/bench/upload.sh

.PHONY: bench-webhook
bench-webhook: build ## Compare the webhook path with pgbench inserting the same row
	@test/bench/webhook.sh

.PHONY: bench-trace
bench-trace: build ## Measure the CPU time that traces add to a webhook
	@test/bench/webhook.sh -trace

.PHONY: bench-metrics
bench-metrics: deps ## Measure scrapes of the operator and of a data plane with 10,000 tenants
	@test/bench/metrics.sh

.PHONY: bench-auth
bench-auth: build ## Measure tokens, authenticated calls beside a flood of wrong logins, and lists beside pgbench
	@test/bench/auth.sh

.PHONY: bench-relay
bench-relay: ## Compare the audio bridge with a TCP proxy, gws and gorilla's defaults
	@test/bench/relay.sh

.PHONY: bench-streams
bench-streams: deps ## Measure how many calls a data plane carries, with frames of 20 and 100 ms
	@test/load.sh knee

.PHONY: bench-pipeline
bench-pipeline: ## Measure the pipeline on the local cluster beside one Job for each recording (root)
	@test/bench/pipeline.sh
