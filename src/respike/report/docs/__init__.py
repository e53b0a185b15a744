"""The measured tables and sentences of README.md and docs/, made from outputs/reference: `python -m respike.report.docs`."""
