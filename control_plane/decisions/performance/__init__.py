"""How fast an engine would serve a model on a GPU, how much memory that takes, and how sure that is.

Pure: the model, the GPU, the engine's configuration and the load in, numbers and intervals out. Nothing here may claim
more than was measured: what is not known widens the interval.
"""
