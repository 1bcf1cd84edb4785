"""The benchmark of wxgate (`python -m bench`): the same WeChat messages through four servers, one table of ratios."""
