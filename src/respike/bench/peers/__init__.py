"""The same spiking network as each library's own users would write it.

Every maker takes a RateSNN and the number of steps T and returns a function (images (B, C, H, W), draw) -> output spikes
(B, classes) after T steps; draw(p) gives random spikes of probability p. Neurons integrate without leak, fire at
potential 1 and start again at 0; average pools are neurons as well (Diehl et al. 2015).
"""
