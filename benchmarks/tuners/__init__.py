"""How close to the best architecture the tuners come, where every true score is known."""
