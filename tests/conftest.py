"""Before any test: one thread, and no network."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # in children too: the last bit of a log-probability depends on it
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["PIP_NO_INDEX"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from hypothesis import settings

# The fuzzing of tests/fuzz, whole: HYPOTHESIS_PROFILE=thorough pytest tests/fuzz
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.register_profile("quick", deadline=None)  # a busy machine fails no test
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

torch.set_num_threads(1)
