"""Measurements of speed and memory, which store tables in results/ and nothing else: make bench."""
