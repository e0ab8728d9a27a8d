"""The mathematics: pure functions, tensors in, tensors out. Imports nothing of the house but its types."""
