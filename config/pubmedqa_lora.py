# LoRA: freeze GPT-2 124M and train updates of rank 8 to the matrices of its blocks, 1,179,648
# parameters (0.9 % of the weights), on PubMedQA's 450 labelled training records (fold 0 validates).
#   prepare:  python prepare.py --source=pubmedqa --out=data/pubmedqa
#   run:      python train.py config/pubmedqa_lora.py
#   larger:   python train.py config/pubmedqa_lora.py --init_from=gpt2-xl --micro_batch_size=1 \
#                 --checkpoint_activations --out=out/pubmedqa_lora_xl
#   share:    python export.py --checkpoint=out/pubmedqa_lora/best --format=adapter
# Hardware:  one GPU of 8 GB or more: 0.5 GB of weights, few gradients and moments, the rest
#            activations. A CPU works too, with a micro-batch that fits.
# Time:      not measured on a GPU.
# Expected:  not measured. The learning rate is ten times that of config/pubmedqa.py: Hu et al. 2021
#            (table 11) fine-tuned GPT-2 with LoRA at 2e-4, with rank 4 and alpha 32.

data = "data/pubmedqa"
out = "out/pubmedqa_lora"
init_from = "gpt2"

lora_rank = 8
lora_alpha = 16
lora_dropout = 0.05
block_size = 1024
batch_size = 16
micro_batch_size = 8
epochs = 5
learning_rate = 5e-4
min_lr = 5e-5
warmup_steps = 20
dropout = 0.1
eval_every = 20
