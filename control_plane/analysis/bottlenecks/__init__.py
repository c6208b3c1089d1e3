"""What binds an inference server: facts of a window in, a verdict with its evidence out.

Pure. A fact that is not known is None and never speaks for or against anything: it only narrows what
can be told apart. No threshold comes from a recording's name; each says where it is from.
"""
