# make demo and make test do all of their own set-up.
VENV   := .venv
LOCK   := requirements/py310-tfx116.txt
NEW_LOCK := requirements/py313-tfx121.txt
UV_LOCK := requirements/uv.txt
DEMO_CLIPS := 280
BIN    := $(VENV)/bin
ENGINE ?= $(notdir $(firstword $(shell command -v podman docker)))
DEVICE ?= cpu
IMAGE  ?= localhost/autotag:$(if $(filter gpu,$(DEVICE)),gpu,latest)
# A file of tests is one process', whose fixtures (models, runs) its tests share; each process takes up to 4 GB.
# tests/conftest.py says how many there are.
PARALLEL := --numprocesses=auto --dist=loadfile --no-loadscope-reorder
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help venv demo docs release-notes wheel test test-page test-kubeflow test-serving test-flink test-tfx121 image test-image lint format protos lock clean
help:
	@echo "Times are of 2 cores that had other work too, without the set-up; where none stands, none was taken lately."
	@echo "  make venv           the environment $(VENV), from the lock file, 4 GB; the others make it too           some minutes"
	@echo "  make demo           synthetic clips -> trained, evaluated, pushed model -> tags of a clip        6 minutes, again: 10 s"
	@echo "  make format         let ruff rewrite the code                                                    1 s"
	@echo "  make lint           ruff and mypy                                                                1 minute, again: 7 s"
	@echo "  make test           lint and all tests but those below"
	@echo "  make test-page      the page in Chromium (on PATH as chromium, or AUTOTAG_CHROMIUM)"
	@echo "  make test-kubeflow  the pipeline on a Kubeflow Pipelines kit beside the checkout"
	@echo "  make test-serving   the tests that need TENSORFLOW_MODEL_SERVER=/path/to/tensorflow_model_server"
	@echo "  make test-flink     the tests on a Flink cluster of this machine; needs Java and Beam's job-server jar"
	@echo "  make test-tfx121    all tests on TFX 1.21 and Python 3.13, in a container (podman or docker)"
	@echo "  make docs           the documentation, into build/docs; a dead link ends it                      5 s"
	@echo "  make wheel          sdist and wheel, into build/dist, used in a clean environment                2 minutes"
	@echo "  make protos         compile every protos/*.proto to the descriptors.binpb beside it              5 s"
	@echo "  make release-notes  what CHANGELOG.md says of the newest version                                 at once"
	@echo "  make image          the container image $(IMAGE) (DEVICE=gpu: with CUDA's libraries)"
	@echo "  make test-image     the image does what its users ask of it"
	@echo "  make lock           renew the lock files under requirements/"
	@echo "  make clean          delete the environment, the demo and what was built"

# The stamp holds what the environment was made from, so a second call is quick.
$(VENV)/.installed: $(LOCK) $(UV_LOCK) setup.py pyproject.toml requirements/make_venv.sh .python-version
	requirements/make_venv.sh $(VENV) $(LOCK) $(UV_LOCK)
	@touch $@

venv: $(VENV)/.installed

# A second call takes what is there: clips, examples, networks.
demo: $(VENV)/.installed
	$(BIN)/autotag make-corpus demo-data --clips $(DEMO_CLIPS) --seed 7
	$(BIN)/autotag run pipeline/configs/demo.yaml
	$(BIN)/autotag report --config pipeline/configs/demo.yaml
	$(BIN)/autotag tag --model demo-run/pushed --top 8 "$$(ls demo-data/d/*.mp3 | head -n 1)"
	@echo "This model has heard synthetic clips alone. For music of your own: $(BIN)/autotag tag --model musicnn-mtt SONG.mp3"

test: lint
	$(BIN)/python -m pytest $(PARALLEL) --ignore=tests/end_to_end/test_kubeflow_pipelines.py --ignore=tests/page $(PYTEST_ARGS)

# Kubeflow Pipelines' own server, driver and launcher, where they are (AUTOTAG_KUBEFLOW_KIT); skipped elsewhere.
test-kubeflow: $(VENV)/.installed
	$(BIN)/python -m pytest -rs tests/end_to_end/test_kubeflow_pipelines.py $(PYTEST_ARGS)

# Without a Chromium pytest alone skips these; here that is a failure. Pictures go to PAGE_SCREENSHOTS.
test-page: $(VENV)/.installed
	AUTOTAG_TEST_PAGE=1 $(BIN)/python -m pytest tests/page $(PYTEST_ARGS)

test-serving: $(VENV)/.installed
	@test -x "$$TENSORFLOW_MODEL_SERVER" || { echo "set TENSORFLOW_MODEL_SERVER to the path of tensorflow_model_server"; exit 2; }
	$(BIN)/python -m pytest tests/end_to_end/test_tensorflow_serving.py tests/end_to_end/test_hostile_server.py $(PYTEST_ARGS)

test-flink: $(VENV)/.installed
	AUTOTAG_TEST_FLINK=1 $(BIN)/python -m pytest -rs tests/end_to_end/test_flink.py $(PYTEST_ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# grpcio-tools brings protoc, in an environment of its own: with this protobuf it does not install into $(VENV).
PROTOC := $(BIN)/uv run --quiet --no-project --isolated --with grpcio-tools==1.65.5 python -m grpc_tools.protoc
protos: $(VENV)/.installed
	@for folder in $$(git ls-files '*/protos/*.proto' | xargs -n 1 dirname | sort -u); do \
	  echo $$folder/descriptors.binpb; \
	  $(PROTOC) -I $$folder --include_imports --descriptor_set_out=$$folder/descriptors.binpb $$folder/*.proto || exit; \
	done

# Also one of the tests, in a folder of its own.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "written: build/docs/index.html"

# Of the newest version, from the changelog.
release-notes:
	@awk '/^## / { sections++ } sections == 1' CHANGELOG.md

# Tried in an environment of its own: command line, tagging, files of the packages, types as a user's mypy sees them.
wheel: $(VENV)/.installed
	AUTOTAG_WHEEL_DIR=build/dist $(BIN)/python -m pytest tests/deploy/test_wheel.py $(PYTEST_ARGS)
	@echo "written: build/dist"

image:
	$(ENGINE) build $(if $(findstring podman,$(ENGINE)),--format docker) --build-arg DEVICE=$(DEVICE) -t $(IMAGE) .

test-image: $(VENV)/.installed
	CONTAINER_ENGINE=$(ENGINE) AUTOTAG_IMAGE=$(IMAGE) $(BIN)/python -m pytest -rs tests/deploy $(PYTEST_ARGS)

test-tfx121:
	requirements/test_in_trixie.sh $(PARALLEL) $(PYTEST_ARGS)

# The image's locks are parts of the first one, which holds them to its versions.
UV_COMPILE := $(BIN)/uv pip compile --no-build-isolation --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --quiet
RUN_EXTRAS := --extra preprocessing --extra download --extra tfx --extra kubeflow --extra aws --extra gcp --extra serving
IMAGE_LOCK := $(RUN_EXTRAS) --python-version 3.10 --override requirements/overrides.txt --constraints $(LOCK)
# What browsers and other machines talk to is taken as it is mended; pytest-xdist from 3.7 on keeps the order of files.
RECENT := $(foreach package,starlette uvicorn python-multipart pytest-xdist,--exclude-newer-package $(package)=2026-11-01)
lock: $(VENV)/.installed
	$(UV_COMPILE) setup.py $(RUN_EXTRAS) --extra engines --extra page --extra dev --override requirements/overrides.txt \
	  --python-version 3.10 --exclude-newer 2025-01-15 $(RECENT) --upgrade -o $(LOCK)
	$(UV_COMPILE) setup.py $(RUN_EXTRAS) --extra engines --extra page --extra dev --override requirements/overrides.txt \
	  --python-version 3.13 --python-platform x86_64-manylinux_2_39 --upgrade -o $(NEW_LOCK)
	$(UV_COMPILE) setup.py requirements/image-cpu.in $(IMAGE_LOCK) --override requirements/image-cpu-overrides.txt \
	  --upgrade -o requirements/image-cpu.txt
	$(UV_COMPILE) setup.py $(IMAGE_LOCK) --extra gpu --upgrade -o requirements/image-gpu.txt

clean:
	rm -rf $(VENV) demo-data demo-run build *.egg-info
