"""The models, what trains and saves them, and what the notebooks draw and check with.

Nothing here imports from the top level.
"""
