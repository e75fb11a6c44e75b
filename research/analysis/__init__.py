"""Arrays in, numbers or pictures out."""
