# Run "make help" for what can be made.

PREFIX ?= /usr/local
DESTDIR ?=
GO ?= go
BIN := bin
CACHE := .cache

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BUILDFLAGS := -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)"
PACKAGES := ./...
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 30s

.DEFAULT_GOAL := build
.DELETE_ON_ERROR:

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/: crio-erofs, crio-erofs-hook and containerd-shim-kata-erofs-v2
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build $(BUILDFLAGS) -o $(BIN)/ ./cmd/...
	@touch $(BIN)/.built

.PHONY: crio
crio: ## Build bin/crio (CRI-O 1.34.0 with the erofs driver compiled in) and bin/pinns
	@test/env/deps.sh build
	@GO=$(GO) contrib/crio/build.sh $(BIN)

.PHONY: deps
deps: ## Install the Debian packages that building, tests and demo need (as root)
	@test/env/deps.sh build
	@test/env/deps.sh run

.PHONY: manual
manual: ## Write the manual pages and shell completions to bin/manual
	@GO=$(GO) contrib/packaging/manual.sh $(BIN)/manual $(VERSION)
	@touch $(BIN)/manual/.built

# For "sudo make install": root, who may not have Go, builds nothing that is up to date.
SOURCES := go.mod $(shell find cmd driver hooks kata -name '*.go' ! -name '*_test.go')
$(BIN)/.built: $(SOURCES)
	@$(MAKE) --no-print-directory build
$(BIN)/manual/.built: $(SOURCES) $(wildcard docs/man/*.md) contrib/crio/go.mod contrib/packaging/manual.sh
	@$(MAKE) --no-print-directory manual

# What has been installed, for the next installation and for uninstall.
MANIFEST := $(PREFIX)/share/crio-erofs/installed

# $(call install,PART) lays PART out and copies it. The layout stays: a message may refer to it.
define install
	@rm -rf $(BIN)/install-$(1)
	@contrib/packaging/stage.sh $(1) $(BIN)/install-$(1) $(PREFIX)
	@contrib/packaging/install.sh install $(BIN)/install-$(1) "$(DESTDIR)/" $(MANIFEST)-$(1)
endef

.PHONY: install
install: install-node install-crio ## Install everything below DESTDIR, programs below PREFIX (docs/install.md)

.PHONY: install-node
install-node: $(BIN)/.built $(BIN)/manual/.built ## Install everything but CRI-O
	$(call install,node)

.PHONY: install-crio
install-crio: crio $(BIN)/manual/.built ## Install CRI-O with the driver, and its units
	$(call install,crio)

.PHONY: uninstall
uninstall: ## Remove what was installed, except for configuration that was changed
	@for part in crio node; do \
		[ ! -e "$(DESTDIR)$(MANIFEST)-$$part" ] || \
			contrib/packaging/install.sh uninstall "$(DESTDIR)/" $(MANIFEST)-$$part || exit 1; \
	done

.PHONY: packages
packages: build crio manual ## Make Debian and RPM packages in bin/packages
	@rm -rf $(BIN)/packages
	@GO=$(GO) contrib/packaging/packages.sh $(BIN)/packages $(VERSION)

.PHONY: demo
demo: deps ## Pull an image and run it under runc and in a VM, from nothing; ends with "demo: ok"
	@$(MAKE) --no-print-directory build crio
	@$(GO) run ./test/demo

.PHONY: test
test: deps ## Run all tests: units, kernel, containers/storage's own suite, CRI-O with runc and VM
	@$(MAKE) --no-print-directory build crio
	@mkdir -p $(CACHE)
	@test/env/leftovers.sh save $(CACHE)/before
	@status=0; \
		for module in . contrib/packaging test/katacompat test/policy test/manifests test/monitoring; do \
			echo "(cd $$module && $(GO) test -count=1 -timeout 25m ./...)"; \
			(cd $$module && $(GO) test -count=1 -timeout 25m ./...) || status=1; \
		done; \
		$(MAKE) --no-print-directory race || status=1; \
		test/env/leftovers.sh check $(CACHE)/before || status=1; \
		exit $$status

.PHONY: test-real
test-real: ## Run every mode on an installed Kata: KATA=/opt/kata (docs/testing-real.md)
ifneq ($(KATA),)
	@test/env/deps.sh build
	@test/env/deps.sh run
	@$(MAKE) --no-print-directory build crio
endif
	@$(GO) run ./test/realkata --kata "$(KATA)"

.PHONY: race
race: ## Run the driver's tests of parallel use under the race detector
	@CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 10m -run '^Test(Stress|Concurrent)$$' ./driver

.PHONY: test-kata
test-kata: deps ## Run what make test has of Kata: wire types, dialects, shim, and every mode in the VM
	@$(MAKE) --no-print-directory build crio
	$(GO) test -count=1 -timeout 25m ./kata/... ./hooks/... ./test/standin/...
	$(GO) test -count=1 -timeout 25m -run 'TestKata|TestVM|TestGuard' ./test/crio
	cd test/katacompat && $(GO) test -count=1 ./...

.PHONY: test-consumers
test-consumers: ## Hold policy, init data and reference values against Kata's and Trustee's own code (needs cargo)
	cargo build --locked --all-features --manifest-path test/policy/consumers/Cargo.toml --target-dir $(CACHE)/consumers
	cd test/policy && $(GO) test -count=1 -v -run '^Test(KataAgent|KataOptions|Trustee)$$' .

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (30s) each
	@for package in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
		for target in $$(grep -rhoE '^func Fuzz[A-Za-z0-9]*' $$package/*_test.go | sed 's/func //'); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$package || exit 1; \
		done; \
	done

.PHONY: bench
bench: deps ## Measure against peers in one run, and print ratios
	@$(MAKE) --no-print-directory build
	@$(GO) run ./test/bench

.PHONY: plots
plots: ## Draw docs/plots from docs/performance.json, which "go run ./test/bench --format json" makes
	@$(GO) run ./test/bench plot docs/performance.json docs/plots

.PHONY: lint
lint: ## Check formatting, vet, what must build on macOS, staticcheck, and golangci-lint if it is installed
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); \
		test -z "$$unformatted" || { echo "gofmt -w these: $$unformatted" >&2; exit 1; }
	$(GO) vet $(PACKAGES)
	GOOS=darwin $(GO) build ./driver/volume ./cmd/crio-erofs
	$(GO) run $(STATICCHECK) $(PACKAGES)
	@if command -v golangci-lint >/dev/null; then golangci-lint run; \
		else echo "golangci-lint is not installed: skipped"; fi

.PHONY: clean
clean: ## Remove what was built; the cache of packages and images too
	rm -rf $(BIN) $(CACHE) contrib/crio/vendor contrib/crio/vendor.tmp
