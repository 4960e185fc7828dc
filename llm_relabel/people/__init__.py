"""What people are asked and answer: their folder, spot-checks, the draw."""
