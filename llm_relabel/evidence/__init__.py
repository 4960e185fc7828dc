"""What all sources say of each unit, and what follows from it."""
