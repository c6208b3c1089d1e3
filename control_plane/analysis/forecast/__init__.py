"""What traffic will be: how many requests and tokens some bins ahead, at most how many, and how far to believe it.

Streaming: a forecaster is told one bin after the other and never looks ahead, so its record of past forecasts is a true
back-test. Nothing here may read a clock, a file or a database, draw lots, or be fitted to one service: what differs
between services is learnt from the series itself while it comes.
"""
