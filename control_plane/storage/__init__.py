"""What is kept, and the only SQL: one file per noun holds its table and its queries.

Only this room imports SQLAlchemy or a driver. Nothing here may decide what a number means, call
the network inside a transaction, or commit: one request or tick is one transaction, committed at
its edge.
"""
