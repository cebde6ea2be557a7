"""The models and their building blocks. Nothing here imports from the top level."""
