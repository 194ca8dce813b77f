"""The connection doctor: what a failed exchange means, whose fault it is, and what to do. Pure rules over evidence."""
