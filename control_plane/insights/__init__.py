"""Insights: words around numbers that were computed elsewhere.

The model is given opaque handles in place of numbers and names, and writes sentences with holes; we fill the holes. No
digit, name or link of its own may pass, nothing that it says changes anything, and without it there is text as well.
"""
