"""The Python client of OptiInfra's REST API: `from resource_agent import ResourceAgent`.

One method for each operation that the API has, generated from its description; a synchronous and an asynchronous class
with the same methods. A value that is not known is None, and `unknown` beside it says why; nothing here makes a number
of it.
"""

from resource_agent.answers import Answer, Page
from resource_agent.client import AsyncResourceAgent, ResourceAgent
from resource_agent.errors import NoAnswer, Refused, ResourceAgentError

__all__ = ["Answer", "AsyncResourceAgent", "NoAnswer", "Page", "Refused", "ResourceAgent", "ResourceAgentError"]
