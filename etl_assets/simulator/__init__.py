"""A totesys for those who have none: its schema, its past and its activity, in any PostgreSQL.

The real one was switched off in 2025. This one behaves as measured on it, silent edits included: `activity.py`.
"""
