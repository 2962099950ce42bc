"""Whether a search was worth it: which networks stand beside its winner, their training, and the certificate."""
