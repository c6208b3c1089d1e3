"""Packed samples: a node's hour of one field in one row, bit for bit what was stored, and readable in plain SQL.

Nothing here may lose a bit: what is written is decoded again and compared before samples are let go of.
"""
