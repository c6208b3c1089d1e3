"""Where stages that must not know each other are put together: rollouts and the guard of objectives."""
