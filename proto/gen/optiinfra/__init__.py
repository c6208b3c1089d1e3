"""What both sides of the wire share: stubs and the field catalogue. Generated."""
