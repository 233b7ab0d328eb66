"""What a browser shows: pages that are one file each, and the pictures in them."""
