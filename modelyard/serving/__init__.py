"""Serves composites: loads champions, and speaks the OpenAI wire over HTTP."""
