"""One file per inference engine: its metric names, by version, mapped to our fields, as data.

Nothing here may open a connection, and nothing here may follow a path outside its own
allow-list: some engines change state on GET.
"""
