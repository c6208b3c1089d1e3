"""Telemetry messages. Generated."""
