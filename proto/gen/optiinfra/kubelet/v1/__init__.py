"""Version 1 of the kubelet's PodResources. Generated."""
