"""The explorer: a page that steers a trained generator (`--mode=explore`).

`controls` says what can be set, and turns what the page asks for into the flags of `--mode=sample`; `app` is
the server; `page` holds what the browser is given. What draws is the command line's (`ganjax.cli.explore`).
"""
