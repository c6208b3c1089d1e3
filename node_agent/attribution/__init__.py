"""Which GPU was given to whom and who uses it, joined from one tick's facts.

It reads no file and asks nobody: collectors do. A pod is never guessed.
"""
