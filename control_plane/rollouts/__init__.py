"""Rollouts: the only way in which anything outside is touched.

An effect is stored as an intent before it is tried; what is true is read from the outside again, never remembered.
Not knowing never moves a rollout forward. The way back needs no new capacity, no queue and nobody's opinion.
"""
