"""The outside world, thinly: NVML, /proc, sockets, HTTP.

One module per source, and the only importer of that source's library. Units are converted
here, once. Nothing here may decide what a reading means.
"""
