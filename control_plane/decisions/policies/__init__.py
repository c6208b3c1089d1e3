"""Policies: one file per verb, each a pure function of facts, limits and a moment to a decision or `NoAction`.

No I/O, clock, chance or framework, and no other stage: a forecast comes as a number.
"""
