# On a fresh machine, `make quickstart` and `make test` are all you need.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup quickstart pubmedqa domain clinical test test-all check format clean

help:
	@echo "make quickstart  set up, then prepare, train, evaluate and prompt a small model (CPU, offline)."
	@echo "                 The same command resumes. On Linux without a GPU,"
	@echo "                 TORCH_INDEX=… with PyTorch's index for CPUs (pytorch.org) saves gigabytes"
	@echo "make pubmedqa    GPT-2 124M on PubMedQA: first its noisy labels, then its experts' labels, then"
	@echo "                 a report. Downloads weights and data, and needs a GPU to be fast. The same"
	@echo "                 command resumes. DOMAIN=notes.jsonl trains on that text first. Offline:"
	@echo "                 SOURCE=ori_pqal.json ARTIFICIAL=ori_pqaa.json"
	@echo "make clinical    a small GPT-2 from scratch on real clinical text, five tasks that start from it, and"
	@echo "                 a page of results. Needs DATA=folder with the files that docs/clinical.md names;"
	@echo "                 no network, no GPU. The same command resumes"
	@echo "make test        set up, then run the test suite (CPU, offline)"
	@echo "make test-all    the same with the slow tests"
	@echo "make check       formatting, lint, layers and types"
	@echo "make clean       remove the quickstart's data and run"
	@echo "More flags for the commands: PREPARE_FLAGS=… TRAIN_FLAGS=… EVAL_FLAGS=…"

setup: .venv/core

.venv/core: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing packages into .venv (1.3 GB, or several with PyTorch for CUDA); takes a few minutes"
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX) \
		"$$(grep -o '^torch==[0-9.]*' requirements.txt)")
	$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

.venv/dev: requirements.txt requirements-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the tests' packages into .venv; takes a few minutes"
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@ .venv/core

# More flags for every prepare.py, train.py and eval.py.
PREPARE_FLAGS ?=
TRAIN_FLAGS ?=
EVAL_FLAGS ?=

# Evaluate a run's best checkpoint on the test split, unless the report is newer. Files written within
# one tick of the clock have equal times: such a report is current. Where symbolic links fail, `best`
# is a file with the checkpoint's name.
define evaluate
	@best=$(1)/best; test ! -f $$best || best=$(1)/$$(cat $$best); \
	if test -f $(1)/eval_test/report.json && \
		! test $$best/clingpt.json -nt $(1)/eval_test/report.json; then \
		echo "$(1) has been evaluated: see $(1)/eval_test/report.html"; \
	else \
		set -x; $(BIN)/python eval.py --checkpoint=$(1)/best --split=test $(2) $(EVAL_FLAGS); \
	fi
endef

quickstart: data/quickstart/manifest.json
	@echo "data/quickstart is prepared"
	$(BIN)/python train.py config/quickstart.py $(TRAIN_FLAGS)
	$(call evaluate,out/quickstart,--texts=60)
	$(BIN)/python sample.py --checkpoint=out/quickstart/best --task=answer --input=data/quickstart/test.jsonl --limit=3
	@echo
	@echo "This model reads labels and copies names in generated records only. A name may still be wrong."
	@echo "Files:  data/quickstart (tokens), out/quickstart (checkpoints, curves.png, eval_test/report.html)"
	@echo "Next:   $(BIN)/python sample.py --task=answer   # ask about a text of your own"
	@echo "        $(BIN)/python train.py --help           # every setting"
	@echo "        make pubmedqa                              # GPT-2 on the real data"

# Prepared again if its preset or the generator changed; a run on other data then needs another --out.
data/quickstart/manifest.json: config/quickstart_data.py clingpt/data/synthetic.py | .venv/core
	$(BIN)/python prepare.py config/quickstart_data.py $(PREPARE_FLAGS)

# The phases of docs/recipes.md. Prepared data is kept, stopped runs resume, and each best checkpoint is
# evaluated on the test split once. With DOMAIN the runs have other names, since they start from other
# weights.
SOURCE ?= pubmedqa
ARTIFICIAL ?=
DOMAIN ?=
DOMAIN_FLAGS ?=
AFTER := $(if $(DOMAIN),_after_domain)
NOISY := out/pubmedqa_artificial$(AFTER)
FINAL := out/pubmedqa_two_phase$(AFTER)

pubmedqa: data/pqa_artificial/manifest.json data/pubmedqa/manifest.json $(if $(DOMAIN),domain)
	$(BIN)/python train.py config/pubmedqa_artificial.py --out=$(NOISY) $(if $(DOMAIN),--init_from=out/domain/best) \
		$(TRAIN_FLAGS)
	$(BIN)/python train.py config/pubmedqa.py --out=$(FINAL) --init_from=$(NOISY)/best $(TRAIN_FLAGS)
	$(call evaluate,$(FINAL))

domain: data/domain/manifest.json
	$(BIN)/python train.py config/domain.py $(TRAIN_FLAGS)

# Earlier phases must not see the records that the last phase is measured on.
UNSEEN := --against data/pubmedqa --drop_overlap=True

data/domain/manifest.json: | .venv/core data/pubmedqa/manifest.json
	$(BIN)/python prepare.py --source=$(DOMAIN) --tasks=text --out=data/domain --test_share=0 \
		$(UNSEEN) $(DOMAIN_FLAGS) $(PREPARE_FLAGS)

data/pqa_artificial/manifest.json: | .venv/core data/pubmedqa/manifest.json
	$(BIN)/python prepare.py $(if $(ARTIFICIAL),--source=$(ARTIFICIAL) --out=data/pqa_artificial,\
		--source=pubmedqa --subset=pqa_artificial) --yes_share=0.5 $(UNSEEN) $(PREPARE_FLAGS)

data/pubmedqa/manifest.json: | .venv/core
	$(BIN)/python prepare.py --source=$(SOURCE) --out=data/pubmedqa $(PREPARE_FLAGS)

# The recipe of docs/clinical.md: a language model on clinical text, then tasks that start from it. DATA
# contains clinical/*.jsonl.gz and pubmedqa/ori_pqal.json. Another seed needs another RUNS.
DATA ?=
RUNS ?= out/clinical
CLINICAL := data/clinical
PAIRS := cxr conclusions mts_dialog evidence
FOLDS := 0 1 2 3 4 5 6 7 8 9

READ_cxr = --source=$(DATA)/clinical/indiana_cxr.jsonl.gz --tasks text summarize
READ_conclusions = --source=$(DATA)/clinical/structured_abstracts.jsonl.gz --task=summarize
READ_mts_dialog = --source=$(DATA)/clinical/mts_dialog.jsonl.gz --tasks text document
READ_evidence = --source=$(DATA)/clinical/evidence_inference_labels.jsonl.gz --input=input --or_input abstract \
	--task=answer --labels \
	"significantly increased=yes" "significantly decreased=no" "no significant difference=maybe"
READ_pubmedqa = --source=$(DATA)/pubmedqa/ori_pqal.json --task=answer
# What the base reads, with the share of each source: all of the articles would be half of the text.
MIXTURE := structured_abstracts=1 evidence_inference_articles=0.2 e3c_english=1 ohsumed=1 mtsamples=1 \
	indiana_cxr=1 mts_dialog=1 aci_bench=1 primock57=1 medpix2=1 trial_eligibility=0.3 cochrane_pls=1
MIX = $(foreach part,$(MIXTURE),$(DATA)/clinical/$(subst =,.jsonl.gz=,$(part)))
# 16 bits halve the time of a step, but only on CPUs that have units for them.
DTYPE = $(if $(shell grep -m1 -oE 'avx512_bf16|amx_bf16' /proc/cpuinfo 2>/dev/null),bfloat16,float32)
CLINICAL_FLAGS = --dtype=$(DTYPE) $(TRAIN_FLAGS)
START = --init_from=$(RUNS)/base
# The sources are published or de-identified, and what looks like an identifier in them stays.
PUBLIC := --allow_phi --drop_overlap --show=0

clinical: $(PAIRS:%=$(CLINICAL)/%/manifest.json) $(FOLDS:%=$(CLINICAL)/pubmedqa_fold%/manifest.json)
	$(BIN)/python train.py config/clinical_base.py --out=$(RUNS)/base $(CLINICAL_FLAGS)
	$(foreach task,$(PAIRS),$(call train_and_evaluate,$(task)))
	@set -e; for fold in $(FOLDS); do set -x; $(BIN)/python train.py config/pubmedqa_from_base.py \
		--data=$(CLINICAL)/pubmedqa_fold$$fold --out=$(RUNS)/pubmedqa_fold$$fold $(START) $(CLINICAL_FLAGS); \
		{ set +x; } 2>/dev/null; done
	@test -f $(RUNS)/pubmedqa_test/report.json || { set -x; $(BIN)/python eval.py --split=test \
		--checkpoint $(FOLDS:%=$(RUNS)/pubmedqa_fold%/best) --out=$(RUNS)/pubmedqa_test $(EVAL_FLAGS); }
	$(BIN)/python -m benchmarks clinical --runs=$(RUNS) --out=$(RUNS)/summary

# Two lines of a recipe, with the empty line that ends the second.
define train_and_evaluate
	$(BIN)/python train.py config/$(1).py --out=$(RUNS)/$(1) $(START) $(CLINICAL_FLAGS)
	$(call evaluate,$(RUNS)/$(1))

endef

# Each task is prepared twice. First in GPT-2's tokens, to tell the base which records it must not see;
# then in the tokens of the base.
$(CLINICAL)/unseen/%/manifest.json: | .venv/core has_data
	$(BIN)/python prepare.py $(READ_$*) --out=$(CLINICAL)/unseen/$* $(PUBLIC) $(PREPARE_FLAGS)

UNSEEN_PAIRS := $(PAIRS:%=$(CLINICAL)/unseen/%) $(CLINICAL)/unseen/pubmedqa
$(CLINICAL)/base/manifest.json: | $(UNSEEN_PAIRS:%=%/manifest.json)
	$(BIN)/python prepare.py --mix $(MIX) --task=text --train_tokenizer=4096 --split= --val_share=0.005 \
		--test_share=0 --against $(UNSEEN_PAIRS) --out=$(CLINICAL)/base $(PUBLIC) $(PREPARE_FLAGS)

$(FOLDS:%=$(CLINICAL)/pubmedqa_fold%/manifest.json): $(CLINICAL)/pubmedqa_fold%/manifest.json: \
		| $(CLINICAL)/base/manifest.json
	$(BIN)/python prepare.py $(READ_pubmedqa) --fold=$* --tokenizer=$(CLINICAL)/base \
		--out=$(CLINICAL)/pubmedqa_fold$* --show=0 $(PREPARE_FLAGS)

$(PAIRS:%=$(CLINICAL)/%/manifest.json): $(CLINICAL)/%/manifest.json: | $(CLINICAL)/base/manifest.json
	$(BIN)/python prepare.py $(READ_$*) --tokenizer=$(CLINICAL)/base --out=$(CLINICAL)/$* $(PUBLIC) $(PREPARE_FLAGS)

.PHONY: has_data
has_data:
	@test -d "$(DATA)/clinical" || { echo "make clinical: pass DATA=folder with clinical/ and pubmedqa/" \
		"(docs/clinical.md names their files)" >&2; exit 2; }

# Two workers with one thread each: most tests wait for small processes that use one core.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist=loadfile

test: .venv/dev
	$(PYTEST) -m "not slow"

test-all: .venv/dev
	$(PYTEST)

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf data/quickstart out/quickstart
