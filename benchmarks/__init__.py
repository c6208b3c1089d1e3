"""How fast it is, against a floor that is measured in the same run: a number without one says nothing.

What runs here is the real thing, in processes of its own. Nothing here is imported by the product.
"""
