"""The score of an architecture on a trained supernet: many at once, stored, shared by the trials of a machine."""
