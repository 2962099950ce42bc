"""What may be concluded from a run: intervals of accuracies, comparison with random architectures, floor, gates."""
