"""The demo: a year of real flights, watched on a simulated clock."""
