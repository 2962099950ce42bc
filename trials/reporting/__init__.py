"""What a run directory tells: its contents collected, pictures, the HTML page, baselines beside the winner."""
