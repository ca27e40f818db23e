"""Networks on windows of frames."""
