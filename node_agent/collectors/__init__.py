"""One file per noun, one shape: `collect(now)` gives entities and samples.

A collector never owns a timer or a task, never raises for a missing device, and never
invents a number: what it could not read is a `Reason`.
"""
