"""Networks on windows of frames, which draw a heatmap for each frame."""
