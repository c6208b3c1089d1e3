"""Who may ask what, and how often: keys, identity providers' tokens, rates.

It knows no HTTP and no route: the API asks it. Nothing here may keep, log or repeat a key or a token, and what
cannot be checked is refused.
"""
