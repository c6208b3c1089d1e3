"""What changes the outside: routers, orchestrators, processes. One small protocol, one contract suite for all.

Every effect may be asked for again, and then changes nothing. Nobody waits in here: whether an effect has taken hold,
the next look says.
"""
