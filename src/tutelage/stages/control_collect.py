"""A step's experience in a vector of environments: stretches of all, or whole episodes from the same beginnings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.environments.control import Gymnasium
from tutelage.models.control import ControlPolicy, Moments
from tutelage.seeds import derive_seed

Array = np.ndarray
Values = Callable[[Array], Array]
_MANY = 10**6  # episodes, which no environment ends within one step of a stage


@dataclass(slots=True)
class Stretch:
    """What E environments showed and did over T steps. An environment's positions follow each other: flat is [E * T].

    `ended` is where an episode is over, `cut` where it goes on unseen: at a time limit, or at the end of the stretch.
    `kept` are the positions to learn from; whole episodes leave out what came after their own end.
    """

    observations_ETO: Array
    actions_ET: Array
    rewards_ET: Array
    ended_ET: Array
    cut_ET: Array
    after_ETO: Array  # what the environment showed after the step, before it began anew
    kept_ET: Array
    returns: list[float]  # of the episodes that were over, in the environment's own rewards

    @property
    def stops_ET(self) -> Array:
        return self.ended_ET | self.cut_ET

    def sequences(self) -> Tensor:
        """[A] int64 the sequence of each kept position: one for each piece of an episode."""
        stops = self.stops_ET[self.kept_ET]
        return torch.from_numpy(np.concatenate(([0], np.cumsum(stops)[:-1])).astype(np.int64))

    def after(self, values: Values) -> Tensor:
        """[B] the value of the state behind each sequence: 0 where its episode ended, the critic's where it was cut."""
        stops_ET = self.stops_ET & self.kept_ET
        expected_B = values(self.after_ETO[stops_ET])
        return torch.from_numpy(np.where(self.ended_ET[stops_ET], 0.0, expected_B).astype(np.float32))


class Collector:
    """Steps the environments with the policy. Keeps their episodes going from one call to the next.

    No environment can be saved in the middle of an episode, but each episode has a seed of its own, so its actions up
    to now are as good: `under_way` tells them, and `resume` repeats them.
    """

    def __init__(
        self,
        environment: Gymnasium,
        policy: ControlPolicy,
        copies: int,
        seed: int,
        discount: float,
        observations: Moments | None,
        rewards: Moments | None,
    ) -> None:
        self.environments, self.policy = environment.make(copies, goes_on=False), policy
        self.copies, self.seed, self.discount = copies, seed, discount
        self.observations, self.rewards = observations, rewards
        self._shown_EO: Array | None = None
        self._begun_E = np.zeros(copies, dtype=np.int64)  # how many episodes
        self._done_E: list[list[Any]] = [[] for _ in range(copies)]  # the actions of those under way
        self._earned_E = np.zeros(copies)  # by those under way
        self._discounted_E = np.zeros(copies)

    def stretch(self, step: int, length: int) -> Stretch:
        """The next `length` steps of every environment."""
        if self._shown_EO is None:
            self._begin(np.ones(self.copies, dtype=bool))
        return self._collect(step, length)

    def episodes(self, step: int, group: int) -> Stretch:
        """One whole episode of every environment; those of a group begin alike."""
        beginnings = [derive_seed(self.seed, "begin", step, place // group) % 2**31 for place in range(self.copies)]
        self._shown_EO, _ = self.environments.reset(seed=beginnings)
        self._begun_E[:] = step * _MANY
        self._earned_E[:], self._discounted_E[:] = 0.0, 0.0
        found = self._collect(step, None)
        stops_ET = found.stops_ET
        found.kept_ET[:] = np.cumsum(stops_ET, 1) - stops_ET == 0  # up to the first end
        return found

    def under_way(self) -> Mapping[str, Any]:
        """The episodes that the next stretch goes on with."""
        return {
            "begun": self._begun_E.tolist(),
            "actions": [list(actions) for actions in self._done_E],
            "earned": self._earned_E.tolist(),
            "discounted": self._discounted_E.tolist(),
        }

    def resume(self, under_way: Mapping[str, Any]) -> None:
        """Repeats what `under_way` told; nothing: all begin."""
        self._shown_EO, self._begun_E[:] = None, under_way.get("begun", 0)
        if not under_way:
            return
        self._begin(np.ones(self.copies, dtype=bool), again=True)
        assert self._shown_EO is not None
        for place, actions in enumerate(under_way["actions"]):
            for action in actions:
                self._shown_EO[place] = self.environments.envs[place].step(np.asarray(action)[()])[0]
        self._done_E = [list(actions) for actions in under_way["actions"]]
        self._earned_E[:], self._discounted_E[:] = under_way["earned"], under_way["discounted"]

    def _begin(self, which_E: Array, again: bool = False) -> None:
        """Begins an episode in each of those environments: its next one, or the one that it was in."""
        self._begun_E[which_E] += not again
        seeds = [derive_seed(self.seed, "episode", place, int(n)) % 2**31 for place, n in enumerate(self._begun_E)]
        self._shown_EO, _ = self.environments.reset(seed=seeds, options={"reset_mask": which_E})
        for place in np.flatnonzero(which_E):
            self._done_E[place] = []
        self._earned_E[which_E], self._discounted_E[which_E] = 0.0, 0.0

    def _collect(self, step: int, length: int | None) -> Stretch:
        """So many steps; None: until every environment has been over once."""
        random = np.random.default_rng(derive_seed(self.seed, "act", step))
        seen: list[tuple[Array, ...]] = []
        returns: list[float] = []
        over_E = np.zeros(self.copies, dtype=bool)
        while not over_E.all() if length is None else len(seen) < length:
            assert self._shown_EO is not None
            inputs_EO = self._inputs(self._shown_EO, learn=True)
            actions_E = self.policy.act(inputs_EO, random)
            allowed_E = self.policy.allowed(actions_E)
            after_EO, rewards_E, ended_E, truncated_E, _ = self.environments.step(allowed_E)
            for done, action in zip(self._done_E, allowed_E.tolist(), strict=True):
                done.append(action)
            done_E = ended_E | truncated_E
            self._earned_E += rewards_E
            first_E = done_E & ~over_E if length is None else done_E
            returns += self._earned_E[first_E].tolist()
            scaled_E = self._scaled(rewards_E)
            seen.append((inputs_EO, actions_E, scaled_E, ended_E, truncated_E & ~ended_E, after_EO))
            over_E |= done_E
            self._shown_EO = after_EO
            if done_E.any():
                self._begin(done_E)
        columns = [np.stack(column, 1) for column in zip(*seen, strict=True)]
        inputs, actions, rewards, ended, cut, after = columns
        cut[:, -1] |= ~ended[:, -1]  # the stretch stops there, whatever the episode does
        after = self._inputs(after.reshape(-1, after.shape[-1]), learn=False).reshape(after.shape)
        kept = np.ones_like(ended)
        return Stretch(inputs, actions, rewards.astype(np.float32), ended, cut, after, kept, returns)

    def _inputs(self, observations_RO: Array, learn: bool) -> Array:
        """As the network sees them."""
        if self.observations is None:
            return observations_RO.astype(np.float32)
        if learn:
            self.observations.add(observations_RO)
        return self.observations.normalised(observations_RO)

    def _scaled(self, rewards_E: Array) -> Array:
        """Rewards in standard deviations of the discounted returns, where they are normalised."""
        if self.rewards is None:
            return rewards_E
        self._discounted_E = self._discounted_E * self.discount + rewards_E
        self.rewards.add(self._discounted_E[:, None])
        return self.rewards.normalised(rewards_E[:, None], centred=False)[:, 0]

    def close(self) -> None:
        self.environments.close()
