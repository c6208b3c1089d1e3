"""Samples → findings. Pure: facts and a moment go in, a judgement with its evidence comes out.

Nothing here may read a clock, a database or the network.
"""
