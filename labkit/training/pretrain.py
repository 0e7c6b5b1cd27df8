"""Pre-training: ordinary classification of the base pictures, after which heads are trained on one backbone.

``dmf-lab train mini-backbone-42 FOLDER --data-root ROOT`` makes the backbone of the protocol "on one backbone".
"""

from labkit.training.phases import Phase

# 30 passes over miniImageNet's 38,400 base pictures. What selects is what the features are good for, without a head;
# a checkpoint every 100 steps, since one that is killed on a busy machine should lose little.
PRE_TRAINING = Phase(
    9000,
    "pre-training",
    batch="pictures",
    size=128,
    learning_rate=0.1,
    warmup=300,
    validate_every=900,
    save_every=100,
    selection="nearest mean",
)
