"""The benchmark: time and memory of this package and of other libraries for the same networks on the same machine.

    python -m respike.bench            # make bench: outputs/bench/bench.csv, bench.md, bench.png
    python -m respike.bench --quick    # few images, one pass: a check of the benchmark, marked as reduced

plan      how much is measured, and the rows; to add a row, add an object to a list there
workload  a converted network with its test images; experiment makes it from a config
rows      runs every row, each in a process of its own (isolated)
cnn       networks of the size that people have: ResNet-20, VGG-16, ResNet-18
rate, floor, exact, training    what such a process measures; timing has the clock
peers     the same network written for other libraries
table, figure    bench.csv, bench.md, bench.png
"""
