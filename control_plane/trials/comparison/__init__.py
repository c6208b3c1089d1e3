"""One configuration against another: the same load on both at the same time, and the same words out of both.

It must never call a candidate better because it was looked at often, at another time, or because it answers faster
and wrong.
"""
