# Fine-tune DistilGPT2 (Sanh et al. 2019: six of GPT-2's twelve layers, 82M parameters) on
# PubMedQA's 450 labelled training records (fold 0 validates). It has GPT-2's tokenizer, so the data
# is the same as that of config/pubmedqa.py.
#   prepare:  python prepare.py --source=pubmedqa --out=data/pubmedqa
#   run:      python train.py config/distilgpt2.py
# Hardware:  computed, not measured: one GPU of 8 GB, with 1.3 GB of weights, gradients and moments
#            (16 bytes per parameter); the rest is activations. A CPU works too.
# Time:      not measured. A block costs what one of GPT-2 124M costs, and there are half as many.
# Expected:  not measured. The learning rate is not tuned either.

data = "data/pubmedqa"
out = "out/distilgpt2"
init_from = "distilbert/distilgpt2"

block_size = 1024
batch_size = 16
micro_batch_size = 8
epochs = 5
learning_rate = 3e-5
min_lr = 3e-6
warmup_steps = 20
dropout = 0.1
eval_every = 20
