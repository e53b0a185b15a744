"""What a simulated and a trained image cost here, and in other libraries: the same work, machine, threads and run.

python -m respike.bench            # make bench: outputs/bench/bench.csv, bench.md, bench.png
python -m respike.bench --quick    # a few images, once: a look, marked reduced

work ──> contenders ──> isolated ──> timing, floor, cost, training ──> table, figure
network  the rows       a process    what is measured in it
images                  for each
"""
