"""What GPUs were doing, look by look, and what that adds up to: time, energy, roofline, waste.

Nothing here may know a label, a clock or a database: looks go in, in the order of GPU and time.
"""
