"""Texts in which something is easily miscounted."""

from __future__ import annotations

ODD = [
    "",
    " \n\t ",
    "☂",
    "?!... --- ()",
    "make the grid sticky",
    "What's the difference? I need to, must and should NOT; explain why, then set up a one-liner, step by step by step.",
    "end-to-end, end to end to end, endAtoAend, trade-offs, tradeoff, multi-tenant, x_design_x, redesign, migrate, migrat",
    "it doesn’t work, it doesn't work, doesnt work, not working: crashed, crash",
    "as well as well as and, plus; also",
    "K and ſ and İ and ı: ſHOULD I MAKE a PLAN? ıs İt Wıthout ſet up ſyſtem; straße ẞ ΟΔΟΣ",
    "useState HTMLElement getHTTPResponse aB Ab ABc x2y 12.5,3 ² ３ snake_case2x",
    "Why does fetch fail?\n```js\nfetch('/api')\n```\n~~~\n<div\nclass='x'>;\n</div>\n",
    'TypeError: x\n    at foo (bar.js:12)\nECONNREFUSED XECONNREFUSED\nTraceback (most recent call last):\n  File "x.py", line 3',
    "pick one:\n A. one\n(B) two\nC) three\n- a\n* b\n • c\n1. d\n2) e\n\n3)\n",
    "数据库索引怎么建？フォームの入力欄が。 เซสชัน 我的数据库",
    "a" * 200 + " " + "()" * 40 + " nanana banana " * 3,
    "pandas dataframe " * 900,
    "x" * 6001 + " end",
    "a\u2028b\u00a0c\x1cd\x85e",
    "\ud800 lone",
]
