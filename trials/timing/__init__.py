"""How long blocks and whole networks take on a device: runtimes, the stopwatch, latency tables."""
