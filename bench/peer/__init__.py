"""Measured programs of the peers: `PEER_PYTHON -m bench.peer.NAME SPEC.json`. Nothing here imports tutelage."""
