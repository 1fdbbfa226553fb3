"""The check that no flow has moved: from a capture at the servers' port to one destination MAC address a flow."""
