"""The whole road of trials.run: its commands, which network it looks for, and what of it is complete."""
