"""Measurements of speed and memory; each module stores a table in results/ and nothing else: make bench."""
