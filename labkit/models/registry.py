"""Every method by name: DMF, and the systems it is compared with.

A new method is one file of `labkit.methods` and one line here:

1. a class that inherits `Method`; its layers are made in `build`;
2. its own options are annotated class attributes with defaults, which `recipe` returns;
3. ``score(support, query, support_mask)``: feature maps [E, N, K, c, h, w], [E, Q, c, h, w] to scores [E, Q, N];
4. ``loss(support, query, labels, base_labels)``: images to `Losses`, usually by `embed_together` and its own score;
5. no query and no episode may change the score of another; random numbers come from `labkit.methods.noise`.
6. how its authors trained it is the class's `authors_training` (`labkit.methods.authors`), where that is known.

``Experiment(method="name", choices={...})`` trains it, `save_model` and `load_model` know it, and
``tests/methods/test_contract.py`` tries it; hold it to its paper's equations in a test of its own.
"""

from labkit.dmf.model import DMF
from labkit.methods.base import Method
from labkit.methods.can import CAN
from labkit.methods.cc_rot import CCRot
from labkit.methods.classifier import Classifier
from labkit.methods.deepemd import DeepEMD
from labkit.methods.dense_classification import DenseClassification
from labkit.methods.dsn import DSN
from labkit.methods.dynamic_fewshot import DynamicFewShot
from labkit.methods.e3bm import E3BM
from labkit.methods.feat import FEAT
from labkit.methods.leo import LEO
from labkit.methods.maml import MAML
from labkit.methods.matchingnet import MatchingNet
from labkit.methods.metaoptnet import MetaOptNet
from labkit.methods.negmargin import NegativeMargin
from labkit.methods.ppa import PPA
from labkit.methods.protonet import ProtoNet
from labkit.methods.relationnet import RelationNet
from labkit.methods.robust_dist import RobustDist
from labkit.methods.simpleshot import SimpleShot
from labkit.methods.snail import SNAIL
from labkit.methods.tadam import TADAM
from labkit.methods.tapnet import TapNet
from labkit.methods.vfsl import VFSL
from labkit.methods.wdae import WDAE

METHODS: dict[str, type[Method]] = {
    "dmf": DMF,
    "can": CAN,
    "classifier": Classifier,
    "cc_rot": CCRot,
    "deepemd": DeepEMD,
    "dense_classification": DenseClassification,
    "dsn": DSN,
    "dynamic_fewshot": DynamicFewShot,
    "e3bm": E3BM,
    "feat": FEAT,
    "leo": LEO,
    "maml": MAML,
    "matchingnet": MatchingNet,
    "metaoptnet": MetaOptNet,
    "negmargin": NegativeMargin,
    "ppa": PPA,
    "protonet": ProtoNet,
    "relationnet": RelationNet,
    "simpleshot": SimpleShot,
    "snail": SNAIL,
    "tadam": TADAM,
    "tapnet": TapNet,
    "robust_dist": RobustDist,
    "wdae": WDAE,
    "vfsl": VFSL,
}


def name_of(model: Method) -> str:
    """The name in `METHODS` of a model's method.

    Raises:
        TypeError: it has none, so that no file could say what it is.
    """
    found = next((name for name, kind in METHODS.items() if type(model) is kind), None)
    if found is None:
        raise TypeError(f"{type(model).__name__} is not in labkit.models.registry.METHODS: add a line for it there")
    return found
