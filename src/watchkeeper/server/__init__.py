"""The server: the dashboard's pages, the JSON interface, and the way in for events over HTTP."""
