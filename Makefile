# Two stages: `make features` writes a feature stack, `make classify` fits a classifier to it.
# `make help` prints the comments that begin with ##: what a target does and, on the lines below it, its variables.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
EXTRA := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
INSTALL := $(VENV)/bin/pip install --quiet --disable-pip-version-check --only-binary=:all: --constraint constraints.txt

DATA ?= digits
# name=VALUE on make's command line → --name VALUE on the program's
option = $(if $($(1)),--$(2) "$($(1))")
EXTRACT = $(call option,BACKBONE,backbone) $(call option,PREPROCESS,preprocess) $(call option,AXES,axes) $(call option,WEIGHTS,weights) $(if $(LAYER),--layer $(LAYER)) \
	$(call option,CLASSES,classes) $(call option,FIELDS,columns) $(call option,GROUP,group) $(call option,CORRECTIONS,corrections) $(if $(NEWCLASSES),--new-classes) $(call option,SHARD,shard) $(call option,SIZE,size) $(call option,DEVICE,device) $(call option,BATCH,batch) \
	$(call option,ENGINE,engine) $(call option,PRECISION,precision) \
	$(call option,VIEWS,views) $(call option,AUGMENT,augment) $(call option,RESIZE,resize) $(call option,FILTER,filter) $(call option,PAGE,page) $(call option,WHITE,white) $(call option,POOL,pool) $(call option,STORE,store) \
	$(call option,SEED,seed) $(call option,OUT,out) $(call option,MAXBAD,max-bad) $(call option,DASK,dask) $(if $(NOLEAKAGE),--no-leakage$(if $(filter near,$(NOLEAKAGE)),=near))
# Where images and weights are now. DATA has a default, which is not meant here.
MOVED = $(if $(filter command environment,$(origin DATA)),--data "$(DATA)") $(call option,WEIGHTS,weights)
CLASSICAL = $(if $(SEARCH),--search$(if $(filter fine,$(SEARCH)),=fine)) $(if $(BALANCE),--balance) $(call option,JOBS,jobs) $(call option,DASK,dask)
PYTEST = $(RUN) -m pytest --numprocesses auto --maxprocesses 4 --max-worker-restart 0 --dist worksteal
REJECTS_ARE_FINE = || { code=$$?; [ $$code -eq 3 ] || exit $$code; }

# A variable on make's command line that the target does not take would be ignored in silence: a typing error, mostly.
GOALS := $(or $(MAKECMDGOALS),help)
TAKEN := $(shell awk -F : -v goals=" $(GOALS) setup " '/^[a-z-]+:.*## / { here = index(goals, " " $$1 " ") } here && sub(/^## /, "")' $(firstword $(MAKEFILE_LIST)))
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
STRANGE := $(firstword $(filter-out $(TAKEN),$(GIVEN)))
ifneq ($(STRANGE),)
MEANT := $(shell $(PYTHON) -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1].upper(), sys.argv[2:], 1))' $(STRANGE) $(TAKEN))
$(error make $(GOALS) takes no $(STRANGE)$(if $(MEANT),; did you mean $(MEANT)?,.) It takes: $(TAKEN))
endif

# Paths of a variable as a command's words "$$@": all of it is one path if that is there; else blanks part it, but for
# those between '…', and * is expanded.
paths = if [ -e "$($(1))" ]; then set -- "$($(1))"; else set -- $($(1)); fi

.DEFAULT_GOAL := help
.PHONY: help setup features classify compare predict export explain audit find demo backbones test quick torch soak mutants lint bench gpu-kit clean

help:  ## list the targets, each with its variables
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 } /^## / { printf "%18s%s\n", "", substr($$0, 4) }' $(MAKEFILE_LIST)
	@echo "docs/commands.md says what each variable means."

setup: $(VENV)/.ready  ## build .venv; the other targets do it when needed
## PYTHON EXTRA

.PHONY: .data-is-there
.data-is-there:  # found out before anything is installed
	@data="$(DATA)"; [ -e "$${data%%::*}" ] || case "$$data" in digits|food101) ;; *) echo "error: no dataset at $$data: no such folder or file" >&2; exit 2;; esac

features: .data-is-there setup  ## stage one: DATA=folder BACKBONE=vgg16 → a feature stack
## DATA FIELDS GROUP CORRECTIONS NEWCLASSES SHARD BACKBONE PREPROCESS AXES WEIGHTS LAYER CLASSES SIZE
## DEVICE ENGINE PRECISION BATCH VIEWS AUGMENT RESIZE FILTER PAGE WHITE POOL STORE SEED NOLEAKAGE
## MAXBAD DASK OUT
	@$(RUN) -m extract "$(DATA)" $(EXTRACT) $(REJECTS_ARE_FINE)

classify: setup  ## stage two: MODEL=svm → its accuracy on the test rows
## STACK MODEL SEARCH BALANCE POOL VIEWS EPOCHS LAYERS SEED SPLITSEED JOBS DASK OUT DATA WEIGHTS
	@$(call paths,STACK); $(RUN) -m classify fit "$$@" $(call option,MODEL,model) $(call option,POOL,pool) \
		$(call option,EPOCHS,epochs) $(call option,LAYERS,layers) $(call option,VIEWS,views) $(CLASSICAL) $(call option,SEED,seed) $(call option,OUT,out) $(call option,SPLITSEED,split-seed) $(MOVED)

# Stacks of several backbones, extracted where they are missing; their paths, a line each, join the words "$$@".
EACH = lines=$$(printf '\n_'); lines=$${lines%_}; for backbone in $(BACKBONES); do \
	made=$$($(RUN) -m extract "$(DATA)" --backbone "$$backbone" $(if $(LAYERS), --layer $(LAYERS)) $(call option,WEIGHTS,weights) \
		$(call option,CLASSES,classes) $(call option,SIZE,size) $(call option,DEVICE,device) $(call option,ENGINE,engine) $(call option,PRECISION,precision)) \
	$(REJECTS_ARE_FINE); blanks=$$IFS; IFS=$$lines; set -f; set -- "$$@" $$made; set +f; IFS=$$blanks; done

compare: $(if $(BACKBONES),.data-is-there) setup  ## stage two: models on the same test rows → a report; or BACKBONES="vgg16 resnet50"
## STACK BACKBONES LAYERS CLASSES SIZE DEVICE ENGINE PRECISION FUSE POOL REPEATS CURVES
## MODELS SEARCH BALANCE VIEWS EPOCHS SEED SPLITSEED JOBS DASK OUT DATA WEIGHTS
	@$(call paths,STACK); $(if $(BACKBONES),$(EACH);) $(RUN) -m classify compare "$$@" $(if $(MODELS),--models $(MODELS)) \
		$(if $(FUSE),--fuse) $(if $(POOL),--pool $(POOL)) $(call option,REPEATS,repeats) $(if $(CURVES),--curves) \
		$(call option,EPOCHS,epochs) $(call option,VIEWS,views) $(CLASSICAL) $(call option,SEED,seed) $(call option,OUT,out) $(call option,SPLITSEED,split-seed) $(if $(BACKBONES),,$(MOVED))

predict: setup  ## new images: MODEL=classify/runs/<stack>/<model> PHOTOS="files and folders" → CSV on stdout
## MODEL PHOTOS COVERAGE WEIGHTS OUT
	@$(call paths,PHOTOS); $(RUN) -m classify predict "$(MODEL)" "$$@" $(call option,COVERAGE,coverage) $(call option,WEIGHTS,weights) $(call option,OUT,out) $(REJECTS_ARE_FINE)

explain: setup  ## which places of PHOTOS spoke for the answer of MODEL → a page
## MODEL PHOTOS CLASSES WEIGHTS OUT
	@$(call paths,PHOTOS); $(RUN) -m classify explain "$(MODEL)" "$$@" $(call option,CLASSES,classes) $(call option,WEIGHTS,weights) $(call option,OUT,out)

audit: setup  ## labels, near copies and photos that look wrong → a page to correct them on
## STACK DATA CSV MOST OUT
	@$(call paths,STACK); $(RUN) -m classify audit "$$@" $(if $(CSV),--csv) $(call option,MOST,most) $(call option,OUT,out) $(if $(filter command environment,$(origin DATA)),--data "$(DATA)")

find: setup  ## the images of STACK that are most like PHOTOS
## STACK PHOTOS COUNT POOL INDEX WEIGHTS
	@$(call paths,PHOTOS); stack=$(if $(STACK),"$(STACK)",$$($(RUN) -c "from features.open import newest_stack as n; print(n())")) || exit $$?; \
		$(RUN) -m features find "$$stack" "$$@" $(if $(COUNT),-k $(COUNT)) $(if $(INDEX),--index) $(call option,POOL,pool) $(call option,WEIGHTS,weights)

export: setup  ## a saved model and its network as one file for other runtimes: MODEL=… TO=keras, onnx or openvino
## MODEL TO OUT WEIGHTS
	@$(RUN) -m classify export "$(MODEL)" $(call option,TO,to) $(call option,OUT,out) $(call option,WEIGHTS,weights)

backbones: setup  ## list the backbones, and how fast stacks were made here
	@$(RUN) -m extract --list

demo: setup  ## the whole path on handwritten digits, offline: features, five classifiers, a report
	@$(RUN) -m extract digits --backbone scattering --size 32 >/dev/null
	@$(RUN) -m classify compare features/stacks/digits-scattering-scale3-32px.h5 --models dense logreg linearsvm svm xgboost
	@$(RUN) -m classify audit features/stacks/digits-scattering-scale3-32px.h5 | tail -1
	@echo "Open those two pages in a browser: the comparison, and what is odd about the images."
	@echo "Now your own photos, one folder a class:"
	@echo "  make features BACKBONE=vgg16 DATA=photos && make classify MODEL=svm"
	@echo "(vgg16 downloads its ImageNet weights once; where there is no network, BACKBONE=scattering needs none)"

test: $(VENV)/.ready-dev  ## run all tests but the long ones, on up to four cores
	@$(PYTEST)

quick: $(VENV)/.ready-dev  ## run the tests that need no Keras, in about a minute
	@$(PYTEST) --quick

torch: $(VENV)/.ready-dev  ## install PyTorch into .venv, and test Keras on it with a backbone of every family
	@$(INSTALL) torch && $(PYTEST) tests/extract/test_torch.py

soak: $(VENV)/.ready-dev  ## run the long tests: 50,000 images, 40,000 mutated files, random disturbances
	@$(RUN) -m pytest -m soak -s

mutants: $(VENV)/.ready-dev  ## remove the guard of each fault from a copy: its test must fail
	@$(RUN) tests/mutants.py

lint: $(VENV)/.ready-dev  ## check style and types
	@$(RUN) -m ruff check . && $(RUN) -m ruff format --check . && $(RUN) -m mypy

bench: $(VENV)/.ready-dev  ## run all benchmarks: DATA=folder of images, WEIGHTS=MobileNetV2's weights file → benchmarks/RESULTS.md
## DATA WEIGHTS
	@test -d "$(DATA)" -a -f "$(WEIGHTS)" || { echo "make bench wants DATA=folder of photos and WEIGHTS=file of MobileNetV2's weights" >&2; exit 2; }
	@$(RUN) -m benchmarks "$(DATA)" "$(WEIGHTS)"

gpu-kit: setup  ## gather what `python3 -m benchmarks.gpu` needs on a machine with a GPU and no network: build/gpu-kit
## WEIGHTS
	@$(RUN) -m benchmarks.gpu_kit $(if $(WEIGHTS),"$(WEIGHTS)")

clean:  ## remove .venv and caches; keep stacks, runs and data
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info build

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make setup PYTHON=python3.11" >&2; exit 2; }
	@echo "installing into $(VENV) ($(EXTRA)) …" >&2
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) --editable ".[$(EXTRA)]"
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@$(INSTALL) --editable ".[$(EXTRA),dev]"
	@touch $@
