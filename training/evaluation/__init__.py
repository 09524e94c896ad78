"""What a trained network is worth: scores, baselines, reports."""
