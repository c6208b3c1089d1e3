"""The load generator: requests at the times of a plan, whatever the server does, and what became of each.

It must never wait for an answer before it sends the next request, and never measure from when it found the time to
send: then a slow server would be asked less and look faster (coordinated omission).
"""
