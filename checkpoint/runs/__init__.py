"""One call of `sample`: the same run or another; create, extend, draw, hand over."""
