"""The dashboards' front door: `make dashboards`, or `streamlit run dashboards/app.py`."""

from __future__ import annotations

import streamlit as st

from dashboards.pages import overview

st.set_page_config(page_title="Modelyard", page_icon="🛤️", layout="wide")
st.navigation(
    [st.Page(overview.show, title="Overview", icon=":material/insights:", url_path="overview", default=True)]
).run()
