"""Trials: load on an inference server, what came of it, and one configuration against another.

Nothing here changes a server or sends what somebody wrote: prompts are made up. A request that failed or never
came back is counted, never dropped.
"""
