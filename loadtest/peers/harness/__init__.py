"""Starts servers to compare with, and speaks with them as their scripts say."""
