"""Flags of an engine, recommended from how it ran: exact, with what they should bring, or a reason to leave them.

Pure and deterministic. Nothing here may promise what the recording does not bear: what is unknown widens an interval or
ends in `NoAction`.
"""
