"""The newest tick as a page for Prometheus, in the names that the field's dashboards use.

An unknown value is absent from the page. It must never become 0, and an old tick never passes for a new one.
"""
