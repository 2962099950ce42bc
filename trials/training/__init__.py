"""Training of supernets and of fixed networks: their options, one step of each, the two loops and what these share."""
