"""Service level objectives: good and bad events in, budgets, burn rates and verdicts out.

Pure: no I/O, clock or chance. What is not known counts neither as good nor as bad, and a verdict that
rests on too little says so: it never passes.
"""
