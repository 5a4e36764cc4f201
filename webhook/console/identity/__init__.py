"""Sign-in with an OpenID provider, and the sign-outs of all consoles."""
