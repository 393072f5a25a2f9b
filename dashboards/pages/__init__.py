"""One module a page; each shows itself with `show()`."""
