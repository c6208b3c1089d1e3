"""What a command line says about an inference server: which program it is, its known flags, its ports.

Command lines hold API keys and access tokens. Nothing may leave here but numbers, switches and words of the
closed lists in `values`: no text of a command line is ever handed on.
"""
