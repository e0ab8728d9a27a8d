"""The same with Stable-Baselines3: a whole training for each step, then 20 greedy episodes."""

from __future__ import annotations

import time
from typing import Any

import torch
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from bench.pace import each_seed


def model_of(spec: dict[str, Any], environments: Any, seed: int) -> Any:
    algorithm = spec["algorithm"]
    shared: dict[str, Any] = {
        "policy": "MlpPolicy",
        "env": environments,
        "n_steps": spec["length"],
        "gamma": algorithm["discount"],
        "gae_lambda": algorithm["decay"],
        "learning_rate": (lambda left: left * spec["lr"]) if spec["schedule"] == "linear" else spec["lr"],
        "seed": seed,
        "device": "cpu",
    }
    size = (
        spec["copies"] * spec["length"] if spec["transitions_per_update"] == "all" else spec["transitions_per_update"]
    )
    match algorithm["type"]:
        case "ppo":
            return PPO(**shared, batch_size=size, n_epochs=spec["epochs"], ent_coef=0.0, clip_range=0.2)
        case "trpo":
            return TRPO(**shared, batch_size=size, n_critic_updates=spec["epochs"], target_kl=0.01, cg_max_steps=10)
        case _:
            return A2C(**shared, ent_coef=algorithm["entropy_bonus"], use_rms_prop=False)


def train(spec: dict[str, Any], seed: int) -> tuple[float, float]:
    environments = make_vec_env(spec["id"], n_envs=spec["copies"], seed=seed)
    if spec["normalise"]:
        environments = VecNormalize(environments, gamma=spec["algorithm"]["discount"])
    model = model_of(spec, environments, seed)
    began = time.perf_counter()
    model.learn(spec["total"])
    seconds = time.perf_counter() - began
    played = make_vec_env(spec["id"], n_envs=8, seed=1000 + seed)
    if spec["normalise"]:
        played = VecNormalize(played, training=False, norm_reward=False)
        played.obs_rms = environments.obs_rms
    score, _ = evaluate_policy(model, played, n_eval_episodes=20, deterministic=True)
    return seconds, float(score)


if __name__ == "__main__":
    torch.set_num_threads(1)  # as ours: the networks are too small to share out
    each_seed(train)
