"""What the control plane may configure here: the host's policy, and the file that outlives the process.

A policy decides and touches nothing. Nothing in this room connects to anything, and nothing that is refused is kept.
"""
