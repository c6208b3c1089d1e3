"""What paid GPU time and energy went into, in disjoint classes that add up, and what that costs.

Nothing here may lose a second, count one twice, or take what is unknown for use or for waste.
"""
