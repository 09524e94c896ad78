"""An open-loop load generator: what a server does when images come at their own pace, whether it keeps up or not.

``kinds`` and ``workload`` decide what is sent and ``arrivals`` when, all before anything is sent and from one seed;
``wire`` sends and receives; ``driver`` keeps the times; ``verdicts`` and ``answers`` judge what comes back; ``tally``
and ``histogram`` count it; ``table``, ``summary`` and ``page`` show it. ``command`` is the command line.
"""
