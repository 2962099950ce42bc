"""Which architecture is trained to the end: what a run has found, its band of cost, random draws, short trainings."""
