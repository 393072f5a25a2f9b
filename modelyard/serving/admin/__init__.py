"""The admin and analytics APIs, beside the OpenAI wire: what an operator sees and changes while everything runs."""
