"""What several families of small models are built from."""
