"""Texts that try tokenizers: Unicode of every kind, code, blanks, long runs, the names of special tokens."""

from __future__ import annotations

from hypothesis import strategies as st

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start|>",
    "<|fim_prefix|>",
    "<think>",
    "</tool_call>",
)
CODE = (
    "def f(x):\n    return x\n",
    '{"a": [1, 2.5e-3], "b": null}',
    "</div>\n\t\t",
    "x+=1;//",
    "http://a.b/c?d=%20",
)
WORDS = (
    "Hello",
    " world",
    "naïve",
    "中文，",
    "日本語",
    "한국어",
    "Привет",
    "مرحبا",
    "ภาษา",
    "हिन्दी",
    "ﷺ",
    "½",
    "👩‍👩‍👧",
    "é",
    "e\u0301",
)

runs = st.builds(
    lambda piece, times: piece * times,
    st.sampled_from((*"a01 \n\t-=.é中😀\u0301", "ab", " \n")),
    st.integers(1, 300),
)
texts = st.lists(
    st.one_of(st.text(max_size=30), st.sampled_from(SPECIAL + CODE + WORDS), runs), max_size=6
).map("".join)
