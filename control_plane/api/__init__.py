"""What people and programs see: HTTP in, stored facts out.

Endpoints translate and nothing more. HTTP status codes live in problems.py alone; no endpoint
writes SQL, and none answers zero for something that is unknown.
"""
