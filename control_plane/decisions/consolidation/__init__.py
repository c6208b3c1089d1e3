"""Consolidation: fewer GPUs for the same engines.

A packing problem, solved by generating columns with HiGHS (https://highs.dev): the linear programme over ways to fill
one GPU gives a bound that no plan can beat, and a plan within a few per cent of it. Nothing here may break a constraint
to come nearer: every plan is checked before it is given.
"""
