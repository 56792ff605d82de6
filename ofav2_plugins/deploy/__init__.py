"""From an architecture to a verified bundle of files that runs: fine-tuning, early exits, export, prediction."""
