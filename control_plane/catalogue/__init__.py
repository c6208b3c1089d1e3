"""What is known of GPUs wherever they stand: peak rates and list prices, as data with a source (README.md).

Nothing here may know a fleet; a GPU that is not listed is unknown.
"""
