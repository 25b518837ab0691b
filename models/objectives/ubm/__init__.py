"""UBM (Li et al., arXiv 2403.02825): interactions first, then sessions."""
