"""Make stores, sub-images and benchmark sets from HR images."""
