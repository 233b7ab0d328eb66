"""What frozen parts of a method say of every slice, made once and stored."""
