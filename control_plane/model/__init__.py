"""The nouns of the control plane, pure: what the rooms above speak about with each other.

Nothing here may touch I/O, a clock, chance, a framework or any other room; a value that is not
known is `None`, never zero.
"""
