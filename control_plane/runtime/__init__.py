"""Machinery without a domain: the clock, tasks, leases, jobs, logs.

Nothing here may know what a GPU, a sample or a rollout is, nor start a task outside a TaskGroup.
"""
