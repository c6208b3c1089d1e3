"""One file per noun, all alike: a router, its parameters, its answers."""
