"""A user's module that cannot be imported."""

exec("def half(:")
