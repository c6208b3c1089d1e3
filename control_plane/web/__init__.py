"""The built-in dashboard: a page, its style and its modules, served as they lie here, over nothing but the REST API.

No build step, nothing from outside: it works where the fleet has no internet. It must never show an unknown value as a
number, compute what an endpoint should say, or put what came from outside into the page as HTML.
"""
