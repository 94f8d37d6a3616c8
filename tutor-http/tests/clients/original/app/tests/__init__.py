"""The original's tests, as its document has them."""
