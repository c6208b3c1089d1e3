"""Findings become recommendations: exact, priced and predicted changes, or a reason to leave things alone.

Deterministic. Nothing here may reach an engine, a cluster or a GPU; rollouts alone do.
"""
