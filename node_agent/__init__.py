"""Looks at one machine and reports; acts only on an unexpired command it knows.

Nothing here may import a web framework, a database driver, pydantic or langgraph, nor the
control plane. A value that could not be read is a `Reason`, never zero.
"""

__version__ = "0.1.0"
