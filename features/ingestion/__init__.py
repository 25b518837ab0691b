"""Landing files to events, and refused rows back to landing files."""
