"""A search from its YAML to its result: the checked plan, NNI's manager and its watchdog, or one process."""
