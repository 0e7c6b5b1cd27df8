"""The methods: DMF, and the systems it is compared with, one readable file each, all of them a `labkit.method.Method`.

A method has `score` and `loss`, says in `recipe` what a file must hold to build it again, and stands in `METHODS`.
"""

from labkit.dmf import DMF
from labkit.method import Method
from labkit.methods.can import CAN
from labkit.methods.dsn import DSN
from labkit.methods.feat import FEAT
from labkit.methods.matchingnet import MatchingNet
from labkit.methods.metaoptnet import MetaOptNet
from labkit.methods.negmargin import NegativeMargin
from labkit.methods.protonet import ProtoNet
from labkit.methods.relationnet import RelationNet

METHODS: dict[str, type[Method]] = {
    "dmf": DMF,
    "can": CAN,
    "dsn": DSN,
    "feat": FEAT,
    "matchingnet": MatchingNet,
    "metaoptnet": MetaOptNet,
    "negmargin": NegativeMargin,
    "protonet": ProtoNet,
    "relationnet": RelationNet,
}


def name_of(model: Method) -> str:
    """The name in `METHODS` of a model's method."""
    return next(name for name, kind in METHODS.items() if type(model) is kind)


__all__ = [
    "CAN",
    "DMF",
    "DSN",
    "FEAT",
    "METHODS",
    "MatchingNet",
    "MetaOptNet",
    "Method",
    "NegativeMargin",
    "ProtoNet",
    "RelationNet",
    "name_of",
]
