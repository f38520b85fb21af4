"""Runs on this machine: made, recorded in ML Metadata, measured, and deleted when they are old."""
