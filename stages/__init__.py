"""Evidence about transfer, stage by stage: pure methods in the families, input and output at the edge."""
