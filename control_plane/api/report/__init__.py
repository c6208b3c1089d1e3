"""The report that a person reads in two minutes: one content, in three forms. Nothing here may compute a figure."""
