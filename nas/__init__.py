"""Search for neural architectures."""
