"""Other programs of the same fleet that may be there. One that is absent, slow or wrong must never disturb anything."""
