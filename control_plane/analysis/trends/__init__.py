"""Where a series goes: its trend, its daily and weekly season, and where it changed. Nothing here may fill a gap."""
