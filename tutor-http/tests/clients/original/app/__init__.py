"""Stands where the original's application is, so that its tests find it."""
