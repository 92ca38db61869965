"""Training runs: their steps, what is saved of them, and how they are judged."""
