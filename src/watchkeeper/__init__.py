"""watchkeeper keeps machine-learning models in production good over time."""
