# LoRA on BioMedLM (Bolton et al. 2024, 2.6 billion parameters, its own 28,896 tokens): freeze it
# and train updates of rank 8, 10,485,760 parameters (0.4 % of the weights), on PubMedQA's 450
# labelled training records (fold 0 validates). Data must be prepared with its tokenizer.
#   prepare:  python prepare.py --source=pubmedqa --tokenizer=stanford-crfm/BioMedLM \
#                 --out=data/pubmedqa_biomedlm
#   run:      python train.py config/biomedlm_lora.py
#   answer:   python sample.py --checkpoint=out/biomedlm_lora/best --weights=bfloat16
# Hardware:  computed, not measured: one GPU of 24 GB with bfloat16. The frozen base takes 5.2 GB in
#            16 bits (10.4 GB with --weights=float32), the updates and their moments 0.2 GB, and the
#            rest is activations of one row and the copies of the weights that validation and saving
#            make. Loading needs no more than the weights (docs/results.md). Checkpoints contain the
#            merged model: 5.2 GB each, of which up to four are kept.
# Time:      not measured.
# Expected:  not measured here. Bolton et al. report 74.4 % accuracy on PubMedQA for BioMedLM, with
#            all weights trained.

data = "data/pubmedqa_biomedlm"
out = "out/biomedlm_lora"
init_from = "stanford-crfm/BioMedLM"

weights = "bfloat16"
lora_rank = 8
lora_alpha = 16
lora_dropout = 0.05
block_size = 1024
batch_size = 16
micro_batch_size = 1
checkpoint_activations = True
epochs = 5
learning_rate = 2e-4
min_lr = 2e-5
warmup_steps = 20
dropout = 0.0
eval_every = 20
