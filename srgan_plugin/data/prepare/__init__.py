"""Make stores, sub-images and benchmark sets out of photographs."""
