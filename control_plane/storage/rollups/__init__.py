"""Rollups: what samples say of each minute and each hour, made from them and always remade from them.

Nothing here is a source of truth: every cell can be computed again from stored samples. No statistic may be
made of averaged percentiles, and what was not known must never enter one as a number.
"""
