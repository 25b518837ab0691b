"""NativeCTR's upper half: behavior attention (An et al., CCL 2019).

Neural CTR Prediction for Native Ad, as PTUM uses it: CNN and word attention read each title, and
behavior attention picks the behaviors that tell. So the CNN's own place is in the text half: with
titles, the published model is this over the text encoder `cnn` with attention over words (field
`text`). Over ids alone the CNN runs over behaviors; its window is 1 by default, a layer of each
behavior by itself, for with neighbors this would be HURA. The paper's second view, attention over
kinds of behavior (queries, pages), is not here: PTUM has one kind.

Shapes: T events, D width.
"""

from models.nn.encoders import hura


class NativeCtr(hura.Hura):
    """CNN and behavior attention; no order of events but what their vectors tell."""
