"""Engine x environment x reward: groups of scored samples, and the record of every one of them."""

from tutelage.rollouts.order import places_of_step, prompts_of_step
from tutelage.rollouts.play_out import play_out
from tutelage.rollouts.record import question, record_samples
from tutelage.rollouts.roll_out import Beginning, check_prompts, go_on, prompts_begun, roll_out

__all__ = [
    "Beginning",
    "check_prompts",
    "go_on",
    "places_of_step",
    "play_out",
    "prompts_begun",
    "prompts_of_step",
    "question",
    "record_samples",
    "roll_out",
]
