"""One paper, one file: its defaults, its credit and its loss, composed out of `functional`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tutelage.algorithms.a2c import A2c
from tutelage.algorithms.base import Algorithm, observed
from tutelage.algorithms.cispo import Cispo
from tutelage.algorithms.clip_cov import ClipCov
from tutelage.algorithms.critic import Critic
from tutelage.algorithms.dapo import Dapo
from tutelage.algorithms.distillation import Distillation
from tutelage.algorithms.dr_grpo import DrGrpo
from tutelage.algorithms.gmpo import Gmpo
from tutelage.algorithms.grpo import Grpo
from tutelage.algorithms.gspo import Gspo
from tutelage.algorithms.high_entropy import HighEntropy
from tutelage.algorithms.kimi import Kimi
from tutelage.algorithms.kl_cov import KlCov
from tutelage.algorithms.lite_ppo import LitePpo
from tutelage.algorithms.luffy import Luffy
from tutelage.algorithms.online_dpo import OnlineDpo
from tutelage.algorithms.opo import Opo
from tutelage.algorithms.paired import (
    Aot,
    ApoDown,
    ApoZero,
    BetaDpo,
    DiscoPop,
    Dpo,
    Dpop,
    Exo,
    Hinge,
    Ipo,
    Nca,
    RobustDpo,
    Sppo,
)
from tutelage.algorithms.ppo import Ppo
from tutelage.algorithms.preferences import Answers, PreferenceLoss, PreferenceTerms
from tutelage.algorithms.prime import Prime
from tutelage.algorithms.reference_free import Cpo, Orpo, SimPo
from tutelage.algorithms.reinforce import Reinforce
from tutelage.algorithms.reinforce_pp import ReinforcePp
from tutelage.algorithms.remax import Remax
from tutelage.algorithms.rloo import Rloo
from tutelage.algorithms.rlp import Rlp
from tutelage.algorithms.sapo import Sapo
from tutelage.algorithms.spiral import Spiral
from tutelage.algorithms.supervised import supervised_loss
from tutelage.algorithms.trpo import Trpo
from tutelage.algorithms.trr_pp import TrrPp
from tutelage.algorithms.unpaired import Bco, Kto, Outcome
from tutelage.algorithms.vapo import Vapo
from tutelage.config import build

ALGORITHMS: Final[Mapping[str, type[Algorithm]]] = {
    "a2c": A2c,
    "cispo": Cispo,
    "clip_cov": ClipCov,
    "dapo": Dapo,
    "distillation": Distillation,
    "dr_grpo": DrGrpo,
    "gmpo": Gmpo,
    "grpo": Grpo,
    "gspo": Gspo,
    "high_entropy": HighEntropy,
    "kimi": Kimi,
    "online_dpo": OnlineDpo,
    "kl_cov": KlCov,
    "lite_ppo": LitePpo,
    "luffy": Luffy,
    "opo": Opo,
    "ppo": Ppo,
    "prime": Prime,
    "reinforce": Reinforce,
    "reinforce_pp": ReinforcePp,
    "remax": Remax,
    "rloo": Rloo,
    "rlp": Rlp,
    "sapo": Sapo,
    "spiral": Spiral,
    "trpo": Trpo,
    "trr_pp": TrrPp,
    "vapo": Vapo,
}

PREFERENCE_LOSSES: Final[Mapping[str, type[PreferenceLoss]]] = {
    "aot": Aot,
    "apo_down": ApoDown,
    "apo_zero": ApoZero,
    "bco": Bco,
    "beta_dpo": BetaDpo,
    "cpo": Cpo,
    "discopop": DiscoPop,
    "dpo": Dpo,
    "dpop": Dpop,
    "exo": Exo,
    "hinge": Hinge,
    "ipo": Ipo,
    "kto": Kto,
    "nca": Nca,
    "orpo": Orpo,
    "outcome": Outcome,
    "robust_dpo": RobustDpo,
    "simpo": SimPo,
    "sppo": Sppo,
}


def build_algorithm(table: object, where: str) -> Algorithm:
    """The algorithm that a recipe's table declares. Raises ConfigError that names the key and the remedy."""
    return build(table, ALGORITHMS, Algorithm, where)


def build_preference_loss(table: object, where: str) -> PreferenceLoss:
    """The loss of judged answers that a recipe's table declares. Raises ConfigError as `build_algorithm` does."""
    return build(table, PREFERENCE_LOSSES, PreferenceLoss, where)


__all__ = [
    "ALGORITHMS",
    "PREFERENCE_LOSSES",
    "A2c",
    "Algorithm",
    "Answers",
    "Aot",
    "ApoDown",
    "ApoZero",
    "Bco",
    "BetaDpo",
    "Cispo",
    "ClipCov",
    "Cpo",
    "Critic",
    "Dapo",
    "DiscoPop",
    "Distillation",
    "Dpo",
    "Dpop",
    "DrGrpo",
    "Exo",
    "Gmpo",
    "Grpo",
    "Gspo",
    "HighEntropy",
    "Hinge",
    "Ipo",
    "Kimi",
    "KlCov",
    "Kto",
    "LitePpo",
    "Luffy",
    "Nca",
    "OnlineDpo",
    "Opo",
    "Orpo",
    "Outcome",
    "Ppo",
    "PreferenceLoss",
    "PreferenceTerms",
    "Prime",
    "Reinforce",
    "ReinforcePp",
    "Remax",
    "Rloo",
    "Rlp",
    "RobustDpo",
    "Sapo",
    "SimPo",
    "Spiral",
    "Sppo",
    "Trpo",
    "TrrPp",
    "Vapo",
    "build_algorithm",
    "build_preference_loss",
    "observed",
    "supervised_loss",
]
