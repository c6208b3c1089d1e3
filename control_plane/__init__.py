"""Turns the samples of a fleet into safe changes.

Data flows ingest → storage → analysis → decisions → rollouts; imports point the other way, down
to `model`. Nothing here may import the node agent: the two meet on the wire, in `proto`.
"""

__version__ = "0.1.0"
