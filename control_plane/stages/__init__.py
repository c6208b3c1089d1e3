"""Work on schedule, each piece load → think → apply: storage gives facts, analysis judges, storage keeps what it found.

Nothing here may judge by itself, answer a question of the API, or write without a lease that is still ours.
"""
