"""Measure speed and memory; store tables in results/ and nothing else: make bench."""
