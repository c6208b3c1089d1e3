"""The stream to the control plane: the only room that knows protobuf.

A batch leaves ring and disk only when the control plane has acknowledged it or it was counted as
lost. Nothing here may block the sampler.
"""
