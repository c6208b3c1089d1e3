"""Policies: facts about a server or a service in, one recommendation or a reason for none out.

Pure and deterministic: no clock, no chance, no I/O. Nothing here may turn a number that is not known into one that is,
or pass a rail: `rails.py` has the last word on whatever a policy proposes.
"""
