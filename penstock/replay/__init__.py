"""`penstock replay`: what to read again, in words; what the books say of it; carrying it out."""
