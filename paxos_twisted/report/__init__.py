"""The report of crash tests: verdicts, round-trip times, and where the time went while clients waited.

    model.py     what a report says, without a word about how it looks
    folder.py    the files that a scenario of ansible/failover_test.yml leaves
    judge.py     the properties, each with its verdict
    evidence.py  times on one clock: answers, faults, who followed whom, the anatomy of each wait
    plots.py     the same as pictures (matplotlib, the extra `report`)
    page.py      index.html, one file that needs no other
    markdown.py  report.md
    main.py      `python -m paxos_twisted.report FOLDER`

Standard library only, except plots: Ansible's controller has no node installed.
"""
