"""The gRPC door: samples in, acknowledgements out.

Everything that arrives is untrusted. A batch is acknowledged only after it was committed, refused
or reported lost; nothing here analyses, and nothing but this room knows protobuf.
"""
