"""Side by side with the peers, on one machine: `python -m bench run`, then `python -m bench table`.

The driver (this folder) loads no torch. What is measured are programs of their own: those in `ours` run with our
interpreter, those in `peer` with the peer's, and neither imports the other's library. Both are given one JSON file
and a model folder, and take their steps in turn.
"""
