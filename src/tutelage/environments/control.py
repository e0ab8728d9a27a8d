"""Classic control through gymnasium: environments in vector form, with discrete or continuous actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from tutelage.config import Part, Table, build
from tutelage.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    import gymnasium


class Gymnasium(Part):
    """A recipe's `[environments.NAME]` table for `control` and `play` stages."""

    type: str = "gymnasium"
    id: str  # such as CartPole-v1
    options: Table = Field(default_factory=dict[str, Any])  # handed to gymnasium.make

    def check(self, where: str) -> None:
        """Raises ConfigError where gymnasium knows no such environment or its spaces are not served."""
        environment = self.make(1, where)
        actions, observations = environment.single_action_space, environment.single_observation_space
        environment.close()
        gym = _gymnasium()
        if not isinstance(observations, gym.spaces.Box) or len(observations.shape) != 1:
            raise ConfigError(f"{where}.id: {self.id} observes {observations}; a vector of numbers is served")
        if not isinstance(actions, (gym.spaces.Box, gym.spaces.Discrete)) or len(actions.shape) > 1:
            raise ConfigError(f"{where}.id: {self.id} acts in {actions}; Discrete, or a vector of numbers, is served")

    def make(self, copies: int, where: str = "id", goes_on: bool = True) -> gymnasium.vector.SyncVectorEnv:
        """So many of it. One that ends begins anew in the same step, or, if it does not go on, when it is reset."""
        gym = _gymnasium()
        modes = gym.vector.AutoresetMode
        reset = {"autoreset_mode": modes.SAME_STEP if goes_on else modes.DISABLED}
        try:
            return gym.make_vec(self.id, copies, vectorization_mode="sync", vector_kwargs=reset, **self.options)
        except (gym.error.Error, TypeError, ImportError) as error:
            raise ConfigError(f"{where}: gymnasium cannot make {self.id!r}: {error}") from error


CONTROL: Final[Mapping[str, type[Gymnasium]]] = {"gymnasium": Gymnasium}


def build_control(table: object, where: str) -> Gymnasium:
    """The environment that a recipe's table declares. Raises ConfigError that names the key and the remedy."""
    environment = build(table, CONTROL, Gymnasium, where)
    environment.check(where)
    return environment


def _gymnasium() -> Any:
    try:
        import gymnasium
    except ImportError as error:
        raise MissingExtraError("gymnasium", "control", "classic control") from error
    return gymnasium
