"""What people look at: reports and records of runs, views of one text, the circuit explorer."""
