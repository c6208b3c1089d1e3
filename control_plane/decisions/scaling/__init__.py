"""How many replicas a service needs by the time that one ordered now is ready.

Pure and deterministic: facts after each bin in, a number or a reason to leave it out. Nothing here may take missing
data for no load, or go below what serves the traffic that is there.
"""
