"""The models and what they are built from. Nothing here imports from the top level."""
