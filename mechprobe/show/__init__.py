"""What people look at: the report of a run and its small record."""
