"""Making the bundled weights: training images, selection, scores, cards. Not installed."""
