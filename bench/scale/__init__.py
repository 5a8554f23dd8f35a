"""How the system grows: measured costs, and a simulation of admission, recovery and balance."""
