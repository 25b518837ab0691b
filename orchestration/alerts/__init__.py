"""Who is told of what is wrong: a webhook and e-mail, once a cause, and once it is well again.

Addresses and secrets come from the environment alone, and are never shown.

    alert.py      one thing that is wrong
    receivers.py  to whom, from the environment: the webhook, e-mail
    messages.py   several alerts as one message, in the form of each receiver
    delivery.py   what was told and what was not: `deliver` takes all that is wrong now
    scopes.py     what a run was to build, and whether others have built it
    runs.py       what is wrong by the runs that have ended
    lake.py       what is wrong by the lake: days, files, models
    setup.py      whether somebody is told, for `footpath doctor`
    sensor.py     the sensor of a data set
"""
