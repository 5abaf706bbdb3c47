"""How good models are, on vehicles that taught none of them.

In: the recorded messages of the vehicles that judge, their trouble codes, models. Out: figures with
intervals, reports, which model is to be the champion. Never: the simulator's truth about wear, a
thinned stream, or a score that credits a whole stretch for one point in it.
"""
