# Everything runs in .venv, made from uv.lock. uv is taken from the PATH, or fetched with pip.
UV := $(shell command -v uv 2>/dev/null)
ifeq ($(UV),)
UV := build/uv/bin/uv
endif
RUN := $(UV) run --frozen --quiet
export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: env demo test test-slow test-lowest lint types all clean

all: lint types test

env: .venv/.ready

.venv/.ready: uv.lock pyproject.toml | $(filter build/uv/bin/uv,$(UV))
	$(UV) sync --frozen
	touch $@

build/uv/bin/uv:
	python3 -m venv build/uv
	build/uv/bin/pip install --quiet --disable-pip-version-check uv

demo: env
	mkdir -p build
	$(RUN) geo-retina detect examples/niwot_ridge.tif -o build/trees.geojson \
	    --picture build/trees.png --map build/trees.html --restart

test: env
	$(RUN) pytest

test-slow: env
	$(RUN) --group export pytest -m slow

# the oldest versions that pyproject.toml allows; their own deprecation warnings are no finding
test-lowest: env
	$(UV) venv --quiet --clear --python 3.11 build/lowest
	$(UV) pip install --quiet --python build/lowest --resolution lowest-direct --editable .
	$(UV) pip install --quiet --python build/lowest pytest hypothesis pytest-timeout \
	    pytest-benchmark faster-coco-eval powerboxes
	PATH="$(CURDIR)/build/lowest/bin:$$PATH" pytest -W ignore::DeprecationWarning

lint: env
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) lint-imports --no-cache

types: env
	$(RUN) mypy

clean:
	rm -rf build .venv
