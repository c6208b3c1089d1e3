"""What people do at a command line beside `up`: keys, a look at the fleet, a look at the set-up.

It asks a control plane over REST like any other caller, but for keys, of which the first cannot be had that way.
Nothing here may print a secret that its user did not ask for.
"""
