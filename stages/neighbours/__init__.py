"""The nearest images of one image, as an encoder sees them: a contact sheet."""
