"""Estimates and how well they are known, for every room that has to decide on numbers.

Pure: no clock, chance, I/O or framework, and nothing here knows what the numbers are of.
"""
