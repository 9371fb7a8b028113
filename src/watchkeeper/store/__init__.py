"""The only layer that speaks SQL and reads files: state, the event log, and sources of tables."""
