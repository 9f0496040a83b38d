"""The shipped methods. Each is exactly what a third party would write; none imports another."""
