"""What somebody should know of: rules over facts, alerts that live and end, and who is told how often.

Everything here is pure. What is not known neither raises an alert nor ends one.
"""
