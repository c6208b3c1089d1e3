"""Findings → recommendations: what to change, why, and what it is worth. Deterministic.

Nothing here may touch anything outside: rollouts do. Facts come as data; other stages are not imported.
"""
