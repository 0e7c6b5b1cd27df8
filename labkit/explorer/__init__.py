"""The widget that shows where DMF looks."""
