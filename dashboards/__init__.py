"""What reviewers read, in Streamlit.

`report` and `queries` fetch, `tables` and `charts` shape (none of them imports Streamlit); `pages` put it on the screen.
"""
