"""From what was summed up to what people are told: figures, classes, money, with units, evidence and confidence.

Nothing here may give a figure that is unknown, or leave out why it is.
"""
