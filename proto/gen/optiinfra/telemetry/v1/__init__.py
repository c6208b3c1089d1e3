"""Version 1 of the telemetry messages. Generated."""
