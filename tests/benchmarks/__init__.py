"""What a stream costs, measured in one run on one machine with peers beside the product.

    make bench                        # everything; prints the table of docs/benchmarks.md
    make bench ARGS="cpu pages"       # some of it
    make bench ARGS="--quick cpu"     # a few streams for a few seconds: whether it runs, not how fast it is

The server under test has one core to itself. The provider and the readers share the others, and each row says so if
they, and not the server, were what gave out.
"""
